//! Federations, data and queries generated from a stream of choices.
//!
//! A monolith is generated first: entities, value types, an interface and a union, with
//! data. Then each field is assigned to one subgraph or shared by several, keys are
//! chosen so that every field stays reachable, and some fields get `@requires`,
//! `@provides` or `@override`, some keys are `@external`. Mock subgraphs
//! fail when they are asked for a field that they do not resolve.

mod data;
mod model;
mod partial;
mod paths;
mod query;
mod sdl;

use std::collections::BTreeSet;
use std::sync::Arc;

use stoa_federation::{Subgraph, Supergraph, compose};

use crate::federation::Federation;
use crate::mock_subgraph::MockSubgraph;
use model::Model;
pub use paths::paths;
pub use query::query;

/// Choices, from a test's generator; all zero when they run out, which is always the
/// simplest choice.
pub struct Choices<'a> {
    values: &'a [u16],
    next: usize,
}

impl<'a> Choices<'a> {
    pub fn new(values: &'a [u16]) -> Self {
        Self { values, next: 0 }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let value = self.values.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        usize::from(value) % bound.max(1)
    }

    /// True with a probability of `percent`.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// A non-empty subset of `0..count`.
    fn some_of(&mut self, count: usize, percent: usize) -> BTreeSet<usize> {
        let first = self.below(count);
        (0..count)
            .filter(|index| *index == first || self.chance(percent))
            .collect()
    }
}

/// A federation and the equivalent monolith.
pub struct World {
    pub federation: Federation,
    pub monolith: MockSubgraph,
    pub sdls: Vec<String>,
}

/// Generates a federation.
///
/// # Errors
/// If the result does not compose, which is a bug in the generator or in composition.
pub fn world(choices: &mut Choices<'_>) -> Result<World, String> {
    let model = Model::generate(choices);
    let data = model.data(choices);
    let sdls: Vec<String> = (0..model.subgraphs)
        .map(|subgraph| model.sdl(subgraph))
        .chain(model.holder.map(|_| model.holder_sdl()))
        .collect();
    let shown = || sdls.join("\n---\n");
    let parsed: Vec<Subgraph> = sdls
        .iter()
        .enumerate()
        .map(|(index, sdl)| Subgraph::parse(&format!("s{index}"), "http://x", sdl))
        .collect::<Result<_, _>>()
        .map_err(|errors| format!("{errors}\n{}", shown()))?;
    let composed = compose(&parsed).map_err(|errors| format!("{errors}\n{}", shown()))?;
    let graph = Supergraph::parse(&composed.supergraph_sdl).map_err(|errors| errors.to_string())?;
    let subgraphs = parsed
        .iter()
        .enumerate()
        .map(|(index, subgraph)| {
            let mock = MockSubgraph::new(subgraph.schema(), Arc::new(model.part(index, &data)))
                .with_computed_fields(model.compute(Some(index)));
            (subgraph.name.clone(), Arc::new(mock))
        })
        .collect();
    let monolith =
        MockSubgraph::new(graph.api(), Arc::new(data)).with_computed_fields(model.compute(None));
    Ok(World {
        federation: Federation {
            graph: Arc::new(graph),
            sdl: composed.supergraph_sdl,
            subgraphs: Arc::new(subgraphs),
            hints: Vec::new(),
        },
        monolith,
        sdls,
    })
}
