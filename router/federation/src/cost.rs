//! What an operation may cost, before anything of it runs: a formula of its variables, by
//! `@cost` and `@listSize`.
//!
//! An object, interface or union counts 1 and a leaf 0, unless `@cost` gives the field, or
//! else its type, another weight. A list counts its items by its size, each with everything
//! below. Input objects count 1 each, a mutation 10 more, introspection nothing. Of an
//! abstract type all fragments count.
//!
//! Source: <https://specs.apollo.dev/cost/v0.1/> and
//! <https://ibm.github.io/graphql-specs/cost-spec.html>.

use apollo_compiler::ast::{Directive, DirectiveList, Value};
use apollo_compiler::executable::{Field, Operation, Selection, SelectionSet};
use apollo_compiler::schema::{ExtendedType, FieldDefinition, InputValueDefinition};
use apollo_compiler::{ExecutableDocument, Name, Node};
use serde_json::Value as Json;

use crate::arguments::{bool_argument, int_argument, strings_argument};
use crate::operation::condition;
use crate::supergraph::Supergraph;

/// What a mutation counts beside its fields.
const MUTATION: i64 = 10;

/// The cost of an operation, for all values of its variables.
#[derive(Debug, Clone)]
pub struct CostFormula {
    base: i64,
    terms: Vec<Term>,
}

/// A field, with everything below.
#[derive(Debug, Clone)]
struct Term {
    weight: i64,
    /// How many items it has; `None` if it is not a list.
    size: Option<Size>,
    /// For a field that must be given exactly one of these arguments: `Type.field`.
    requires_one: Option<(String, Vec<Given>)>,
    /// Arguments whose values have a cost.
    arguments: Vec<(Node<InputValueDefinition>, Given)>,
    /// Directives that may leave it out.
    conditions: Vec<DirectiveList>,
    below: Vec<Term>,
}

/// The size of a list: the largest slicing argument, else what is assumed; with neither,
/// nothing is known of it.
#[derive(Debug, Clone, Default)]
struct Size {
    slices: Vec<Given>,
    assumed: Option<i64>,
}

/// The value of an argument.
#[derive(Debug, Clone)]
struct Given {
    value: Node<Value>,
    /// If the value is a variable that has none.
    default: Option<Node<Value>>,
}

/// The JSON text of a variable, if it has a value.
pub type ValueOf<'a> = &'a dyn for<'n> Fn(&'n str) -> Option<&'a str>;

impl CostFormula {
    /// The formula of an operation of a valid document, whose size after expanding its
    /// fragments was limited before.
    pub fn of(graph: &Supergraph, document: &ExecutableDocument, operation: &Operation) -> Self {
        let mut writer = Writer {
            graph,
            document,
            conditions: Vec::new(),
        };
        let mut terms = Vec::new();
        writer.set(&operation.selection_set, None, &mut terms);
        Self {
            base: match operation.is_mutation() {
                true => MUTATION,
                false => 0,
            },
            terms,
        }
    }

    /// The cost with these variables; a list of unknown size counts `list_size` items.
    ///
    /// # Errors
    /// A field that needs exactly one slicing argument and has another number of them.
    pub fn cost<'a>(
        &self,
        graph: &'a Supergraph,
        list_size: u32,
        variables: ValueOf<'a>,
    ) -> Result<u64, String> {
        let evaluation = Evaluation {
            graph,
            list_size: list_size.into(),
            variables,
        };
        let cost = self.base.saturating_add(evaluation.sum(&self.terms)?);
        Ok(u64::try_from(cost).unwrap_or(0))
    }
}

/// What a field says of the sizes of lists right below it.
struct Sized<'a> {
    fields: &'a [String],
    size: Size,
}

struct Writer<'a> {
    graph: &'a Supergraph,
    document: &'a ExecutableDocument,
    /// The directives of the fragments around a selection.
    conditions: Vec<DirectiveList>,
}

impl Writer<'_> {
    fn set(&mut self, set: &SelectionSet, sized: Option<&Sized<'_>>, out: &mut Vec<Term>) {
        for selection in &set.selections {
            let (directives, inner) = match selection {
                Selection::Field(field) if field.name.starts_with("__") => continue,
                Selection::Field(field) => {
                    out.extend(self.field(&set.ty, field, sized));
                    continue;
                }
                Selection::InlineFragment(inline) => {
                    (&inline.directives, Some(&inline.selection_set))
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = spread.fragment_def(self.document);
                    (&spread.directives, fragment.map(|f| &f.selection_set))
                }
            };
            let outer = self.conditions.len();
            self.conditions.extend(conditions(directives));
            if let Some(inner) = inner {
                self.set(inner, sized, out);
            }
            self.conditions.truncate(outer);
        }
    }

    fn field(&mut self, ty: &Name, field: &Field, sized: Option<&Sized<'_>>) -> Option<Term> {
        let definition = self.graph.definition(ty, &field.name)?.clone();
        let directive = definition.directives.get("listSize");
        let names =
            |argument| directive.map_or_else(Vec::new, |found| strings_argument(found, argument));
        let (slicing, below_fields) = (names("slicingArguments"), names("sizedFields"));
        let own_size = Size {
            slices: slices(&definition, field, &slicing),
            assumed: directive
                .and_then(|found| int_argument(found, "assumedSize"))
                .map(i64::from),
        };
        let outer = sized.filter(|sized| sized.fields.iter().any(|name| field.name == **name));
        let size = definition.ty.is_list().then(|| match outer {
            Some(sized) => sized.size.clone(),
            None => own_size.clone(),
        });
        let requires_one = directive.is_some_and(|found| {
            !slicing.is_empty() && bool_argument(found, "requireOneSlicingArgument") != Some(false)
        });
        let requires_one = requires_one.then(|| {
            let coordinate = format!("{ty}.{}", field.name);
            (coordinate, own_size.slices.clone())
        });
        let mut conditions_here = self.conditions.clone();
        conditions_here.extend(conditions(&field.directives));
        let mut below = Vec::new();
        let inner = Sized {
            fields: &below_fields,
            size: own_size,
        };
        // The conditions around this field hold for all that is below.
        let around = std::mem::take(&mut self.conditions);
        self.set(&field.selection_set, Some(&inner), &mut below);
        self.conditions = around;
        Some(Term {
            weight: self.weight(&definition),
            size,
            requires_one,
            arguments: self.arguments(&definition, field),
            conditions: conditions_here,
            below,
        })
    }

    fn weight(&self, definition: &FieldDefinition) -> i64 {
        weight(definition.directives.get("cost").map(|cost| &**cost))
            .unwrap_or_else(|| weight_of_type(self.graph, definition.ty.inner_named_type()))
    }

    fn arguments(
        &self,
        definition: &FieldDefinition,
        field: &Field,
    ) -> Vec<(Node<InputValueDefinition>, Given)> {
        let costly = definition.arguments.iter().filter(|argument| {
            let ty = argument.ty.inner_named_type();
            argument.directives.has("cost") || weight_of_type(self.graph, ty) != 0
        });
        let given = costly.filter_map(|argument| {
            let value = given(argument, field)?;
            Some((argument.clone(), value))
        });
        given.collect()
    }
}

/// `@skip` and `@include`, if there are any.
fn conditions(directives: &DirectiveList) -> Option<DirectiveList> {
    let has = |name| condition(directives, name).is_some();
    (has("skip") || has("include")).then(|| directives.clone())
}

/// The value of an argument, as written or by default.
fn given(argument: &InputValueDefinition, field: &Field) -> Option<Given> {
    let default = argument.default_value.clone();
    let written = field.specified_argument_by_name(&argument.name).cloned();
    Some(Given {
        value: written.or_else(|| default.clone())?,
        default,
    })
}

/// The arguments of these names that have a value.
fn slices(definition: &FieldDefinition, field: &Field, names: &[String]) -> Vec<Given> {
    let arguments = definition.arguments.iter();
    let slicing = arguments.filter(|argument| names.iter().any(|name| argument.name == **name));
    slicing
        .filter_map(|argument| given(argument, field))
        .collect()
}

/// The `weight` of a `@cost`.
fn weight(cost: Option<&Directive>) -> Option<i64> {
    int_argument(cost?, "weight").map(i64::from)
}

fn weight_of_type(graph: &Supergraph, ty: &str) -> i64 {
    let Some(ty) = graph.schema.types.get(ty) else {
        return 0;
    };
    let cost = ty.directives().get("cost").map(|cost| &***cost);
    weight(cost).unwrap_or_else(|| i64::from(!ty.is_leaf()))
}

struct Evaluation<'a> {
    graph: &'a Supergraph,
    list_size: i64,
    variables: ValueOf<'a>,
}

impl Evaluation<'_> {
    fn sum(&self, terms: &[Term]) -> Result<i64, String> {
        let mut sum = 0_i64;
        for term in terms {
            if term
                .conditions
                .iter()
                .all(|directives| self.holds(directives))
            {
                sum = sum.saturating_add(self.term(term)?);
            }
        }
        Ok(sum)
    }

    fn holds(&self, directives: &DirectiveList) -> bool {
        let is = |name, default| match condition(directives, name) {
            Some(Value::Boolean(value)) => *value,
            Some(Value::Variable(name)) => {
                (self.variables)(name).map_or(default, |text| text == "true")
            }
            _ => default,
        };
        is("include", true) && !is("skip", false)
    }

    fn term(&self, term: &Term) -> Result<i64, String> {
        if let Some((coordinate, slices)) = &term.requires_one {
            let count = self.sizes(slices).count();
            if count != 1 {
                return Err(format!(
                    "\"{coordinate}\" needs exactly one of the arguments that limit its size, not {count}"
                ));
            }
        }
        let each = term.weight.saturating_add(self.sum(&term.below)?);
        let items = term.size.as_ref().map_or(1, |size| {
            let largest = self.sizes(&size.slices).max();
            largest.or(size.assumed).unwrap_or(self.list_size)
        });
        let mut cost = each.saturating_mul(items.max(0));
        for (argument, given) in &term.arguments {
            let value = self.json_of(given);
            cost = cost.saturating_add(self.input(argument, &value));
        }
        // A negative weight makes a field cheaper, not the rest of the operation.
        Ok(cost.max(0))
    }

    /// The values of slicing arguments.
    fn sizes(&self, slices: &[Given]) -> impl Iterator<Item = i64> {
        slices.iter().filter_map(|slice| {
            let value = self.json_of(slice).as_i64();
            value.or_else(|| self.json(slice.default.as_ref()?).as_i64())
        })
    }

    fn json_of(&self, given: &Given) -> Json {
        match (&*given.value, &given.default) {
            (Value::Variable(name), Some(default)) if (self.variables)(name).is_none() => {
                self.json(default)
            }
            (value, _) => self.json(value),
        }
    }

    /// What an argument or an input field costs with a value.
    fn input(&self, definition: &InputValueDefinition, value: &Json) -> i64 {
        let own = weight(definition.directives.get("cost").map(|cost| &**cost));
        let ty = definition.ty.inner_named_type();
        match value {
            Json::Null => 0,
            Json::Array(items) => {
                let items = items.iter().map(|item| self.input(definition, item));
                items.fold(0, i64::saturating_add)
            }
            Json::Object(given) => {
                let own = own.unwrap_or_else(|| weight_of_type(self.graph, ty));
                let Some(ExtendedType::InputObject(object)) = self.graph.schema.types.get(ty)
                else {
                    return own;
                };
                given.iter().fold(own, |sum, (name, value)| {
                    let field = object.fields.get(name.as_str());
                    let cost = field.map_or(0, |field| self.input(field, value));
                    sum.saturating_add(cost)
                })
            }
            _ => own.unwrap_or_else(|| weight_of_type(self.graph, ty)),
        }
    }

    /// A literal as JSON; what is no number, list or object only has to be there.
    fn json(&self, value: &Value) -> Json {
        match value {
            Value::Null => Json::Null,
            Value::Variable(name) => {
                let text = (self.variables)(name);
                text.and_then(|text| serde_json::from_str(text).ok())
                    .unwrap_or_default()
            }
            Value::Int(_) => value.to_i32().map_or(Json::Bool(true), Json::from),
            Value::List(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.to_string(), self.json(value)))
                .collect(),
            _ => Json::Bool(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Subgraph, compose};

    const SDL: &str = r#"
        extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@cost", "@listSize"])
        type Query {
            leaf: Int
            dear: Int @cost(weight: 7)
            one: T
            unknown: [T]
            assumed: [T] @listSize(assumedSize: 3)
            sliced(first: Int = 4, last: Int): [T] @listSize(slicingArguments: ["first", "last"], requireOneSlicingArgument: false)
            strict(first: Int, last: Int): [T] @listSize(slicingArguments: ["first", "last"])
            connection(first: Int = 20): C @listSize(slicingArguments: ["first"], sizedFields: ["nodes", "edges"])
            find(by: In, all: [In!], price: Int @cost(weight: 5)): Int
            node: I
        }
        type Mutation { change: T }
        type C { nodes: [T] edges: [E] total: Int other: [T] }
        type E { node: T }
        interface I { id: Int }
        type T implements I { id: Int self: T heavy: H }
        type H implements I @cost(weight: 9) { id: Int }
        input In { a: Int b: Int @cost(weight: 2) in: In }
    "#;

    fn cost(query: &str, variables: &[(&str, &str)]) -> Result<u64, String> {
        let subgraph = Subgraph::parse("a", "http://a", SDL).unwrap();
        let composed = compose(&[subgraph]).unwrap();
        let graph = Supergraph::parse(&composed.supergraph_sdl).unwrap();
        let document = ExecutableDocument::parse_and_validate(graph.api(), query, "q").unwrap();
        let operation = document.operations.iter().next().unwrap();
        let given = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| *text)
        };
        CostFormula::of(&graph, &document, operation).cost(&graph, 10, &given)
    }

    #[test]
    fn costs_follow_weights_and_sizes() {
        for (query, expected) in [
            ("{ leaf __typename __schema { types { name } } }", 0),
            ("{ dear }", 7),
            ("{ one { id } }", 1),
            ("{ one { self { self { id } } } }", 3),
            ("{ one { heavy { id } } }", 10),
            ("{ unknown { id } }", 10),
            ("{ unknown { self { id } } }", 20),
            ("{ assumed { heavy { id } } }", 30),
            ("{ sliced { id } }", 4),
            ("{ sliced(first: 5) { id } }", 5),
            ("{ sliced(first: 5, last: 50) { id } }", 50),
            ("{ sliced(first: -5) { id } }", 0),
            ("{ strict(last: 6) { id } }", 6),
            ("{ connection { total } }", 1),
            ("{ connection { nodes { id } } }", 21),
            (
                "{ connection(first: 100) { nodes { self { id } } edges { node { id } } } }",
                401,
            ),
            ("{ connection(first: 100) { other { id } } }", 11),
            (
                "{ connection(first: 2) { ...N } } fragment N on C { nodes { id } }",
                3,
            ),
            ("{ find }", 0),
            ("{ find(price: 3) }", 5),
            ("{ find(price: null) }", 0),
            ("{ find(by: { a: 1 }) }", 1),
            ("{ find(by: { b: 1, in: { a: 2 } }, all: [{}, {}]) }", 6),
            ("{ node { ... on T { self { id } } ... on H { id } } }", 2),
            ("{ a: one { id } b: one { id } }", 2),
            ("{ one @skip(if: true) { id } }", 0),
            ("{ ... @include(if: false) { one { id } } }", 0),
            ("mutation { change { id } }", 11),
        ] {
            assert_eq!(cost(query, &[]), Ok(expected), "{query}");
        }
    }

    #[test]
    fn variables_decide_sizes_inputs_and_conditions() {
        let query = "query ($n: Int, $in: In, $yes: Boolean!) { sliced(first: $n) { id } find(by: $in) one @include(if: $yes) { id } }";
        for (variables, expected) in [
            (&[("yes", "false")] as &[_], 4),
            (&[("yes", "true"), ("n", "30")], 31),
            (&[("yes", "true"), ("n", "null")], 5),
            (&[("yes", "false"), ("in", r#"{"b":1,"in":{"b":2}}"#)], 10),
        ] {
            assert_eq!(cost(query, variables), Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn one_slicing_argument_may_be_required() {
        for query in ["{ strict { id } }", "{ strict(first: 1, last: 1) { id } }"] {
            let problem = cost(query, &[]).unwrap_err();
            assert!(problem.contains("\"Query.strict\""), "{problem}");
        }
    }

    #[test]
    fn a_cost_beyond_all_numbers_is_the_largest() {
        let query = "{ a: sliced(first: 2147483647) { id } b: connection(first: 2147483647) { nodes { self { id } } } }";
        assert_eq!(cost(query, &[]), Ok(2_147_483_647 * 3 + 1));
    }
}
