//! The category tree, and the rules for it.

use stoa_schema::CategoryId;

use super::{Problem, ProblemCode, text_problem};

const MAX_CATEGORY_NAME: usize = 100;
/// How deep the category tree may grow.
const MAX_DEPTH: usize = 6;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Category {
    pub id: CategoryId,
    pub name: String,
    pub parent_id: Option<CategoryId>,
}

/// A category and all its descendants.
pub fn descendants(all: &[Category], root: &CategoryId) -> Vec<CategoryId> {
    let mut found = vec![root.clone()];
    let mut next = 0;
    while let Some(parent) = found.get(next).cloned() {
        for category in all {
            if category.parent_id.as_ref() == Some(&parent) && !found.contains(&category.id) {
                found.push(category.id.clone());
            }
        }
        next += 1;
    }
    found
}

/// The depth of `id` in the tree; 1 at the top.
fn depth(all: &[Category], id: &CategoryId) -> usize {
    let mut depth = 0;
    let mut at = Some(id.clone());
    while let Some(current) = at {
        depth += 1;
        if depth > all.len() {
            break;
        }
        at = all
            .iter()
            .find(|category| category.id == current)
            .and_then(|category| category.parent_id.clone());
    }
    depth
}

/// Checks a category within the whole tree, which already holds it.
///
/// # Errors
/// If its name is invalid, or its parent is missing, below it, or too deep.
pub fn check_category(all: &[Category], category: &Category) -> Result<(), Problem> {
    if let Some(problem) = text_problem("name", &category.name, 1, MAX_CATEGORY_NAME) {
        return Err(problem);
    }
    let Some(parent) = &category.parent_id else {
        return Ok(());
    };
    if !all.iter().any(|other| other.id == *parent) {
        return Err(Problem::new(
            &["input", "parentId"],
            ProblemCode::NotFound,
            "there is no such category",
        ));
    }
    let below = descendants(all, &category.id);
    let too_deep = below.iter().any(|id| depth(all, id) > MAX_DEPTH);
    if too_deep || below.contains(parent) {
        return Err(Problem::new(
            &["input", "parentId"],
            ProblemCode::CategoryCycle,
            format!("a category cannot be below itself, nor more than {MAX_DEPTH} levels deep"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(id: &str, parent: Option<&str>) -> Category {
        Category {
            id: CategoryId::trusted(id),
            name: id.to_owned(),
            parent_id: parent.map(CategoryId::trusted),
        }
    }

    #[test]
    fn the_tree_knows_its_depth() {
        let all = [
            category("a", None),
            category("b", Some("a")),
            category("c", Some("b")),
        ];
        assert_eq!(depth(&all, &CategoryId::trusted("c")), 3);
        assert_eq!(descendants(&all, &CategoryId::trusted("a")).len(), 3);
    }

    #[test]
    fn a_category_is_within_the_tree_and_its_depth() {
        let chain = ["a", "b", "c", "d", "e", "f", "g"];
        let below = |depth: usize| {
            let parents = [None].into_iter().chain(chain.into_iter().map(Some));
            let chain = chain.into_iter().zip(parents).take(depth);
            chain.map(|(id, parent)| category(id, parent))
        };
        let check = |tree: Vec<Category>, changed: Category| {
            check_category(&tree, &changed).map_err(|problem| problem.code)
        };
        let deepest = below(6).last().unwrap();
        assert_eq!(check(below(6).collect(), deepest), Ok(()));
        let too_deep = below(7).last().unwrap();
        let cycle = Err(ProblemCode::CategoryCycle);
        assert_eq!(check(below(7).collect(), too_deep), cycle);

        // "a" below its own descendant "c".
        let looped = category("a", Some("c"));
        let tree = [looped.clone()].into_iter().chain(below(3).skip(1));
        assert_eq!(check(tree.collect(), looped), cycle);

        let lost = category("x", Some("nowhere"));
        let missing = Err(ProblemCode::NotFound);
        assert_eq!(check(vec![lost.clone()], lost), missing);
        let unnamed = Category {
            name: String::new(),
            ..category("x", None)
        };
        let invalid = Err(ProblemCode::Invalid);
        assert_eq!(check(vec![unnamed.clone()], unnamed), invalid);
    }
}
