//! Postal addresses.

use serde::{Deserialize, Serialize};

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub full_name: Option<String>,
    pub line1: String,
    pub line2: Option<String>,
    pub city: String,
    pub region: Option<String>,
    pub postal_code: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
}

impl Address {
    /// What is wrong with it: each field, and what it must be.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let required = [
            ("line1", Some(&self.line1), 200),
            ("city", Some(&self.city), 100),
            ("postalCode", Some(&self.postal_code), 20),
        ];
        let optional = [
            ("fullName", self.full_name.as_ref(), 200),
            ("line2", self.line2.as_ref(), 200),
            ("region", self.region.as_ref(), 100),
        ];
        let bad = |text: &str| text.chars().any(char::is_control);
        let required = required
            .into_iter()
            .map(|(name, text, max)| (name, text, 1, max));
        let optional = optional
            .into_iter()
            .map(|(name, text, max)| (name, text, 0, max));
        let mut problems: Vec<_> = required
            .chain(optional)
            .filter_map(|(field, text, min, max)| {
                let text = text?;
                let fits =
                    text.chars().count() <= max && text.trim().chars().count() >= min && !bad(text);
                (!fits).then(|| {
                    (
                        field,
                        format!("must have between {min} and {max} characters"),
                    )
                })
            })
            .collect();
        let country = self.country.as_bytes();
        if country.len() != 2 || !country.iter().all(u8::is_ascii_uppercase) {
            problems.push((
                "country",
                "must be an ISO 3166-1 code of two capital letters, such as DE".to_owned(),
            ));
        }
        problems
    }
}
