//! Products and categories, and the rules for them.

use stoa_runtime::clock::Micros;
use stoa_schema::{CategoryId, Money, ProductId};
use stoa_service::problem::IdempotencyCodes;

pub const MAX_NAME: usize = 200;
pub const MAX_CATEGORY_NAME: usize = 100;
pub const MAX_DESCRIPTION: usize = 5_000;
pub const MAX_SKU: usize = 64;
pub const MAX_STOCK: i64 = 1_000_000_000;
pub const MAX_PRICE_MINOR: i64 = 1_000_000_000_000;
pub const MAX_REASON: usize = 500;
/// How deep the category tree may grow.
pub const MAX_DEPTH: usize = 6;
const MAX_SEARCH_WORDS: usize = 10;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Product {
    pub id: ProductId,
    pub sku: String,
    pub name: String,
    pub description: String,
    pub price: Money,
    pub category_id: Option<CategoryId>,
    /// Units for sale, without the reserved ones. Never cached: `None` in a
    /// product that came from a cache.
    #[serde(skip)]
    pub stock: Option<i64>,
    pub is_active: bool,
    pub created_at: Micros,
    pub updated_at: Micros,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Category {
    pub id: CategoryId,
    pub name: String,
    pub parent_id: Option<CategoryId>,
}

/// What is wrong with a client's input.
pub type Problem = stoa_service::problem::Problem<ProblemCode>;

/// Why the catalogue refuses a change.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, async_graphql::Enum, serde::Serialize, serde::Deserialize,
)]
#[graphql(name = "CatalogueErrorCode")]
pub enum ProblemCode {
    /// A value is missing, too long, out of range or malformed.
    Invalid,
    /// There is no such product or category.
    NotFound,
    /// Another product has this SKU.
    SkuTaken,
    /// There are fewer units in stock than are to be removed.
    InsufficientStock,
    /// The category still contains products or categories.
    CategoryInUse,
    /// A category cannot be below itself, nor more than six levels deep.
    CategoryCycle,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// A request with this idempotency key is still running.
    InProgress,
}

impl IdempotencyCodes for ProblemCode {
    const INVALID: Self = Self::Invalid;
    const IN_PROGRESS: Self = Self::InProgress;
    const REUSED: Self = Self::IdempotencyKeyReused;
}

/// The data of a product to be created.
#[derive(Debug, Clone)]
pub struct NewProduct {
    pub sku: String,
    pub name: String,
    pub description: String,
    pub price: Option<Money>,
    pub category_id: Option<CategoryId>,
    pub stock: i64,
}

/// A change of a product; `None` leaves a value unchanged.
#[derive(Debug, Clone, Default)]
pub struct ProductChange {
    pub sku: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub price: Option<Option<Money>>,
    pub category_id: Option<Option<CategoryId>>,
    pub is_active: Option<bool>,
}

impl NewProduct {
    /// All validation errors.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(sku_problem(&self.sku));
        problems.extend(text_problem("name", &self.name, 1, MAX_NAME));
        problems.extend(text_problem(
            "description",
            &self.description,
            0,
            MAX_DESCRIPTION,
        ));
        problems.extend(price_problem(self.price));
        if !(0..=MAX_STOCK).contains(&self.stock) {
            problems.push(Problem::new(
                &["input", "stock"],
                ProblemCode::Invalid,
                format!("must be between 0 and {MAX_STOCK}"),
            ));
        }
        problems
    }
}

impl ProductChange {
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.sku.as_deref().and_then(sku_problem));
        if let Some(name) = &self.name {
            problems.extend(text_problem("name", name, 1, MAX_NAME));
        }
        if let Some(description) = &self.description {
            problems.extend(text_problem("description", description, 0, MAX_DESCRIPTION));
        }
        if let Some(price) = self.price {
            problems.extend(price_problem(price));
        }
        problems
    }
}

pub fn text_problem(field: &str, text: &str, min: usize, max: usize) -> Option<Problem> {
    let length = text.trim().chars().count();
    if (min..=max).contains(&length) && !text.chars().any(|c| c.is_control() && c != '\n') {
        return None;
    }
    Some(Problem::new(
        &["input", field],
        ProblemCode::Invalid,
        format!("must have between {min} and {max} characters, none of them control characters"),
    ))
}

fn sku_problem(sku: &str) -> Option<Problem> {
    let fits = (1..=MAX_SKU).contains(&sku.len())
        && sku
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (!fits).then(|| {
        Problem::new(
            &["input", "sku"],
            ProblemCode::Invalid,
            format!(
                "must have between 1 and {MAX_SKU} letters, digits, dots, dashes or underscores"
            ),
        )
    })
}

fn price_problem(price: Option<Money>) -> Option<Problem> {
    match price {
        None => Some(Problem::new(
            &["input", "price", "currencyCode"],
            ProblemCode::Invalid,
            "is not a currency that the shop supports",
        )),
        Some(price) if !(0..=MAX_PRICE_MINOR).contains(&price.amount_minor) => Some(Problem::new(
            &["input", "price", "amountMinor"],
            ProblemCode::Invalid,
            format!("must be between 0 and {MAX_PRICE_MINOR}"),
        )),
        Some(_) => None,
    }
}

/// The words of a search: each matches as a prefix, whatever its case.
/// `Err` holds the greatest number of words that a search may have.
pub fn search_words(text: &str) -> Result<Vec<String>, usize> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.len() > MAX_SEARCH_WORDS {
        return Err(MAX_SEARCH_WORDS);
    }
    Ok(words)
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
pub fn depth(all: &[Category], id: &CategoryId) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_words_and_nothing_else() {
        assert_eq!(
            search_words("  \"Red\" OR mug*; DROP-table ' ").unwrap(),
            ["red", "or", "mug", "drop", "table"]
        );
        assert_eq!(search_words("***").unwrap(), Vec::<String>::new());
        assert_eq!(search_words(&"a ".repeat(11)), Err(10));
    }

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
