//! Settings from the environment. A wrong value is an error that names the
//! variable, what it holds and what it may hold; it is never ignored.

use std::env;
use std::path::PathBuf;

/// What is wrong with a setting.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct SettingError {
    pub name: String,
    pub problem: String,
}

impl SettingError {
    pub fn new(name: &str, problem: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            problem: problem.into(),
        }
    }
}

/// A variable's value; an empty one counts as absent.
pub fn read(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the process runs. Nothing else distinguishes development from
/// production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    Development,
    Production,
}

impl Environment {
    /// From `STOA_ENV`; development by default.
    ///
    /// # Errors
    /// For any value but `development` and `production`.
    pub fn from_env() -> Result<Self, SettingError> {
        match read("STOA_ENV").as_deref() {
            None | Some("development") => Ok(Self::Development),
            Some("production") => Ok(Self::Production),
            Some(other) => Err(SettingError::new(
                "STOA_ENV",
                format!("\"{other}\" is neither \"development\" nor \"production\""),
            )),
        }
    }

    pub fn is_development(self) -> bool {
        self == Self::Development
    }
}

/// The folder for databases and generated secrets: `STOA_DATA_DIR`, else
/// `./data`.
pub fn data_dir() -> PathBuf {
    read("STOA_DATA_DIR").map_or_else(|| PathBuf::from("data"), PathBuf::from)
}
