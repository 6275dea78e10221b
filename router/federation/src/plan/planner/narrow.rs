//! Abstract types: fragments, and fields that must be planned for each object type.

use std::rc::Rc;

use apollo_compiler::{Name, name};

use super::{Instance, Parent, Planner, Position, PositionId};
use crate::operation::{Field, Selections};
use crate::plan::{PathStep, PlanError};
use crate::supergraph::SubgraphId;

impl Planner<'_> {
    pub(super) fn plan_fragment(
        &mut self,
        at: PositionId,
        condition: &Name,
        inner: &Selections,
    ) -> Result<(), PlanError> {
        let wanted = self.graph.possible_types(condition);
        let runtime = self.positions[at].runtime.clone();
        if !self.graph.is_abstract(&self.positions[at].ty) {
            return if wanted.contains(&self.positions[at].ty) {
                self.plan_selections(at, inner)
            } else {
                Ok(())
            };
        }
        let objects: Vec<Name> = runtime
            .iter()
            .filter(|ty| wanted.contains(ty))
            .cloned()
            .collect();
        if objects.is_empty() {
            return Ok(());
        }
        let typed = self.ensure_typed(at)?;
        // The fragment can be kept if its type includes the same objects in the subgraph
        // as in the supergraph.
        let known = self.graph.possible_types_in(typed.subgraph, condition);
        if self.graph.is_abstract(condition)
            && self.graph.defines(typed.subgraph, condition)
            && objects.iter().all(|ty| known.contains(ty))
        {
            let inside = self.narrow(at, condition, objects.into());
            return self.plan_selections(inside, inner);
        }
        for ty in objects {
            let inside = self.narrow(at, &ty, Rc::from([ty.clone()]));
            self.plan_selections(inside, inner)?;
        }
        Ok(())
    }

    /// An instance at an abstract position whose subgraph knows the objects' types.
    pub(super) fn ensure_typed(&mut self, at: PositionId) -> Result<Instance, PlanError> {
        let knows_types = |planner: &Self, instance: &Instance| {
            !planner
                .graph
                .is_interface_object(instance.subgraph, &instance.ty)
        };
        let known = self.positions[at].instances.iter();
        if let Some(instance) = known.clone().find(|instance| knows_types(self, instance)) {
            let instance = instance.clone();
            self.touched.push(instance.group);
            return Ok(instance);
        }
        let ty = self.positions[at].ty.clone();
        let to = self
            .reach(at)
            .into_iter()
            .filter(|(id, _)| !self.graph.is_interface_object(*id, &ty))
            .min_by_key(|(id, reach)| (reach.depth, reach.fetches, *id))
            .map(|(id, _)| id)
            .ok_or_else(|| self.unresolvable(at, &ty, &name!("__typename")))?;
        let instance = self.obtain(at, to)?;
        self.arena.select_typename(instance.node);
        self.touched.push(instance.group);
        Ok(instance)
    }

    /// The position at the same place for objects of a narrower type.
    pub(super) fn narrow(&mut self, at: PositionId, ty: &Name, objects: Rc<[Name]>) -> PositionId {
        if self.positions[at].ty == *ty {
            return at;
        }
        let known = (at, ty.clone());
        if let Some(position) = self.narrowed.get(&known) {
            return *position;
        }
        let mut path = self.positions[at].path.clone();
        if let Some(PathStep::Types(_)) = path.last() {
            path.pop();
        }
        path.push(PathStep::Types(objects.to_vec()));
        self.positions.push(Position {
            parent: Parent::Narrow { of: at },
            ty: ty.clone(),
            path,
            runtime: objects,
            instances: Vec::new(),
        });
        let position = self.positions.len() - 1;
        self.narrowed.insert(known, position);
        for instance in self.positions[at].instances.clone() {
            self.narrow_instance(position, &instance);
        }
        position
    }

    /// Adds an instance of a wider position to a narrower one, if its subgraph knows the
    /// narrower type.
    pub(super) fn narrow_instance(&mut self, at: PositionId, wider: &Instance) -> Option<Instance> {
        let name = self.narrowed_type(at, wider.subgraph, &wider.ty)?;
        let node = if name == wider.ty {
            wider.node
        } else {
            self.arena.select_typename(wider.node);
            self.arena.fragment(wider.node, &name)
        };
        let instance = Instance {
            node,
            ty: name,
            ..wider.clone()
        };
        self.positions[at].instances.push(instance.clone());
        Some(instance)
    }

    /// The type name of a position's objects in a subgraph that has the type `wider`
    /// there; `None` if the subgraph does not know all of them.
    pub(super) fn narrowed_type(
        &self,
        at: PositionId,
        subgraph: SubgraphId,
        wider: &Name,
    ) -> Option<Name> {
        let position = &self.positions[at];
        if self.graph.is_interface_object(subgraph, wider) {
            return Some(wider.clone());
        }
        let here = self.graph.possible_types_in(subgraph, wider);
        if self.graph.is_abstract(&position.ty) {
            let known = self.graph.possible_types_in(subgraph, &position.ty);
            (self.graph.defines(subgraph, &position.ty)
                && position.runtime.iter().all(|ty| known.contains(ty)))
            .then(|| position.ty.clone())
        } else {
            here.contains(&position.ty).then(|| position.ty.clone())
        }
    }

    pub(super) fn plan_abstract_field(
        &mut self,
        at: PositionId,
        field: &Field,
        slot: Name,
    ) -> Result<(), PlanError> {
        let direct = match self.must_go_by_type(at, &slot) {
            true => None,
            false => self.direct_instance(at, field)?,
        };
        let Some(instance) = direct else {
            return self.plan_by_type(at, field);
        };
        let planned = self.select(at, &instance, field, slot.clone(), Vec::new());
        self.or_by_type(at, field, &slot, planned)
    }

    /// An instance that resolves a field for all objects at an abstract position.
    fn direct_instance(
        &mut self,
        at: PositionId,
        field: &Field,
    ) -> Result<Option<Instance>, PlanError> {
        let instances = &self.positions[at].instances;
        let direct = instances
            .iter()
            .find(|instance| self.is_direct(at, instance.subgraph, &instance.ty, &field.name))
            .cloned();
        if direct.is_some() {
            return Ok(direct);
        }
        let ty = self.positions[at].ty.clone();
        let untyped = instances.iter().all(|instance| {
            self.graph
                .is_interface_object(instance.subgraph, &instance.ty)
        });
        if !untyped {
            return Ok(None);
        }
        let direct = self
            .reach(at)
            .into_iter()
            .filter(|(id, _)| self.is_direct(at, *id, &ty, &field.name))
            .min_by_key(|(id, reach)| {
                let holds = self.graph.is_interface_object(*id, &ty);
                (reach.depth, reach.fetches, holds, *id)
            });
        match direct {
            Some((to, _)) => self.obtain(at, to).map(Some),
            None => Ok(None),
        }
    }

    /// Plans a field of an abstract position for each of its object types.
    pub(super) fn plan_by_type(&mut self, at: PositionId, field: &Field) -> Result<(), PlanError> {
        self.ensure_typed(at)?;
        for ty in self.positions[at].runtime.clone().iter() {
            let inside = self.narrow(at, ty, Rc::from([ty.clone()]));
            self.plan_field(inside, field)?;
        }
        Ok(())
    }

    /// Whether a subgraph that has the type `name` at an abstract position resolves a
    /// field for all objects there, without a fragment for each type.
    pub(super) fn is_direct(
        &self,
        at: PositionId,
        subgraph: SubgraphId,
        name: &Name,
        field: &Name,
    ) -> bool {
        let plain = |ty: &Name| {
            self.graph
                .field(subgraph, ty, field)
                .is_some_and(|join| join.resolves_alone(self.labels))
        };
        if !plain(name) || self.graph.is_conflicted(field) {
            return false;
        }
        if self.graph.is_interface_object(subgraph, name) {
            return true;
        }
        let here = self.graph.possible_types_in(subgraph, name);
        self.positions[at]
            .runtime
            .iter()
            .all(|ty| here.contains(ty) && plain(ty))
    }
}
