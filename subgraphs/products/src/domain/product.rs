//! Products, the rules for them, and how a list of them is filtered and sorted.

use stoa_runtime::clock::Micros;
use stoa_schema::peer::ProductSnapshot;
use stoa_schema::{CategoryId, Money, ProductId};

use super::{Problem, ProblemCode, text_problem};

pub const MAX_NAME: usize = 200;
pub const MAX_DESCRIPTION: usize = 5_000;
pub const MAX_SKU: usize = 64;
pub const MAX_STOCK: i64 = 1_000_000_000;
pub const MAX_PRICE_MINOR: i64 = 1_000_000_000_000;
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

/// The product data that an order keeps.
pub fn product_snapshot(product: &Product) -> ProductSnapshot {
    ProductSnapshot {
        product_id: product.id.clone(),
        sku: product.sku.clone(),
        name: product.name.clone(),
        price: product.price,
    }
}

/// Which products a list contains.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ProductFilter {
    pub words: Vec<String>,
    /// Any of these.
    pub categories: Option<Vec<CategoryId>>,
    pub price_min: Option<i64>,
    pub price_max: Option<i64>,
    pub in_stock: Option<bool>,
    pub is_active: Option<bool>,
}

/// How products are sorted; ties are broken by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub enum ProductSort {
    #[default]
    Newest,
    NameAsc,
    NameDesc,
    PriceAsc,
    PriceDesc,
}

/// A product's sort key, as cursors contain it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProductKey {
    /// The sort that the cursor belongs to: it is not valid for any other.
    sort: u8,
    pub text: Option<String>,
    pub number: Option<i64>,
    pub id: String,
}

impl ProductSort {
    fn sort_tag(self) -> u8 {
        match self {
            Self::Newest => 0,
            Self::NameAsc => 1,
            Self::NameDesc => 2,
            Self::PriceAsc => 3,
            Self::PriceDesc => 4,
        }
    }

    pub fn is_ascending(self) -> bool {
        matches!(self, Self::NameAsc | Self::PriceAsc)
    }

    pub fn key(self, product: &Product) -> ProductKey {
        let (text, number) = match self {
            Self::Newest => (None, None),
            Self::NameAsc | Self::NameDesc => (Some(product.name.clone()), None),
            Self::PriceAsc | Self::PriceDesc => (None, Some(product.price.amount_minor)),
        };
        ProductKey {
            sort: self.sort_tag(),
            text,
            number,
            id: product.id.to_string(),
        }
    }

    /// Whether a cursor was made by this sort.
    pub fn accepts_cursor(self, key: &ProductKey) -> bool {
        let (text, number) = match self {
            Self::Newest => (false, false),
            Self::NameAsc | Self::NameDesc => (true, false),
            Self::PriceAsc | Self::PriceDesc => (false, true),
        };
        key.sort == self.sort_tag() && key.text.is_some() == text && key.number.is_some() == number
    }
}

#[cfg(test)]
mod tests {
    use stoa_schema::money::Currency;

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

    fn mug() -> NewProduct {
        NewProduct {
            sku: "MUG-1".to_owned(),
            name: "Mug".to_owned(),
            description: String::new(),
            price: Some(Money::new(1_250, Currency::EUR)),
            category_id: None,
            stock: 0,
        }
    }

    #[test]
    fn each_field_has_its_limits() {
        type Case = (&'static str, fn(&mut NewProduct));
        assert_eq!(mug().problems(), []);
        let cases: [Case; 9] = [
            ("sku", |new| new.sku = String::new()),
            ("sku", |new| new.sku = "a b".to_owned()),
            ("sku", |new| new.sku = "x".repeat(MAX_SKU + 1)),
            ("name", |new| new.name = String::new()),
            ("name", |new| new.name = "x".repeat(MAX_NAME + 1)),
            ("description", |new| {
                new.description = "x".repeat(MAX_DESCRIPTION + 1);
            }),
            ("price", |new| new.price = None),
            ("price", |new| {
                new.price = Some(Money::new(-1, Currency::EUR))
            }),
            ("stock", |new| new.stock = -1),
        ];
        for (field, change) in cases {
            let mut new = mug();
            change(&mut new);
            let problems = new.problems();
            assert_eq!(problems.len(), 1, "{new:?}");
            assert_eq!(problems[0].field[1], field);
        }
    }

    #[test]
    fn a_change_is_checked_only_where_it_changes() {
        assert_eq!(ProductChange::default().problems(), []);
        let change = ProductChange {
            sku: Some("a b".to_owned()),
            name: Some(String::new()),
            price: Some(None),
            ..ProductChange::default()
        };
        assert_eq!(change.problems().len(), 3);
    }

    #[test]
    fn a_cursor_is_valid_only_for_its_own_sort() {
        let product = Product {
            id: ProductId::new(),
            sku: "MUG-1".to_owned(),
            name: "Mug".to_owned(),
            description: String::new(),
            price: Money::new(1_250, Currency::EUR),
            category_id: None,
            stock: None,
            is_active: true,
            created_at: 0,
            updated_at: 0,
        };
        let sorts = [
            ProductSort::Newest,
            ProductSort::NameAsc,
            ProductSort::NameDesc,
            ProductSort::PriceAsc,
            ProductSort::PriceDesc,
        ];
        for made in sorts {
            for used in sorts {
                assert_eq!(used.accepts_cursor(&made.key(&product)), made == used);
            }
        }
    }
}
