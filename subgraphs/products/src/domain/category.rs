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

    #[test]
    fn the_tree_knows_its_depth() {
        let category = |id: &str, parent: Option<&str>| Category {
            id: CategoryId::trusted(id),
            name: id.to_owned(),
            parent_id: parent.map(CategoryId::trusted),
        };
        let all = [
            category("a", None),
            category("b", Some("a")),
            category("c", Some("b")),
        ];
        assert_eq!(depth(&all, &CategoryId::trusted("c")), 3);
        assert_eq!(descendants(&all, &CategoryId::trusted("a")).len(), 3);
    }
}
