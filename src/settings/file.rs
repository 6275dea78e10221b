//! The settings file: `stoa.toml`, or the one that `--config` names.

use std::collections::BTreeMap;
use std::path::Path;

use stoa_runtime::settings::SettingError;
use toml::{Table, Value};

/// Read if it exists and no other file is named.
const DEFAULT: &str = "stoa.toml";

/// Takes the values of the settings file, if there is one.
///
/// # Errors
/// If a file was named and cannot be read, or is not of this form.
pub fn load(named: Option<&Path>) -> Result<(), SettingError> {
    let path = named.unwrap_or(Path::new(DEFAULT));
    if named.is_none() && !path.exists() {
        return Ok(());
    }
    let file = path.display().to_string();
    let wrong = |problem: String| SettingError::new(&file, problem);
    let text =
        std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let values = parse(&text).map_err(wrong)?;
    stoa_runtime::settings::use_file(values);
    Ok(())
}

/// The values by the name of the setting: `bus_url` is `STOA_BUS_URL`.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| format!("is not TOML: {error}"))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let name = format!("STOA_{}", key.to_uppercase());
        let value = flat(&value).ok_or_else(|| {
            format!("\"{key}\" must be a text, a number, true or false, or a list of these")
        })?;
        values.insert(name, value);
    }
    Ok(values)
}

fn flat(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(flat).collect();
            Some(items?.join(","))
        }
        Value::Table(_) | Value::Datetime(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_names_without_the_prefix() {
        let text = "env = \"production\"\ndatabase_pool = 20\ncors_origins = [\"https://a\", \"https://b\"]";
        let values = parse(text).unwrap();
        assert_eq!(values["STOA_ENV"], "production");
        assert_eq!(values["STOA_DATABASE_POOL"], "20");
        assert_eq!(values["STOA_CORS_ORIGINS"], "https://a,https://b");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in ["env =", "[router]\nlimit = 1", "at = 2026-01-01"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
