//! Settings from the environment and from a file. A wrong value is an error that
//! names the setting, what was given and what is allowed; it is never ignored.
//!
//! A file holds what the environment may: `stoa.toml`, read once at the start. The
//! environment wins.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The values of the settings file, by the name of the setting.
static FILE: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingErrors(pub Vec<SettingError>);

impl std::error::Error for SettingErrors {}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.0[..] {
            return write!(f, "{one}");
        }
        write!(f, "{} settings are wrong:", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl From<SettingError> for SettingErrors {
    fn from(error: SettingError) -> Self {
        Self(vec![error])
    }
}

/// Collects what is wrong, so that all of it is reported at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<SettingError>);

impl Problems {
    /// The value, or `None` if there is a problem, which is kept.
    pub fn check<T>(&mut self, read: Result<T, SettingError>) -> Option<T> {
        read.map_err(|error| self.0.push(error)).ok()
    }

    /// # Errors
    /// Everything that was kept, if anything was.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, SettingErrors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(SettingErrors(self.0)),
        }
    }
}

/// Takes the values of a settings file; the first call in a process counts.
pub fn use_file(values: BTreeMap<String, String>) {
    let _ = FILE.set(values);
}

/// A setting's value, from the environment or else the file; an empty one counts
/// as absent.
pub fn read(name: &str) -> Option<String> {
    let set = env::var(name).ok().filter(|value| !value.is_empty());
    set.or_else(|| FILE.get()?.get(name).cloned())
        .filter(|value| !value.is_empty())
}

/// Where a setting's value is from, if it is set.
pub fn origin(name: &str) -> Option<Origin> {
    all_set().remove(name)
}

/// Where a setting's value is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Environment,
    File,
}

/// Every setting of ours that is set, known or not, with its origin.
pub fn all_set() -> BTreeMap<String, Origin> {
    let file = FILE.get().into_iter().flatten();
    let file = file.filter(|(_, value)| !value.is_empty());
    let file = file.map(|(name, _)| (name.clone(), Origin::File));
    let environment = env::vars_os()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("STOA_"))
        .map(|name| (name, Origin::Environment));
    file.chain(environment).collect()
}

/// Where the process runs. Nothing else tells development from production.
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
    pub fn read() -> Result<Self, SettingError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let mut problems = Problems::default();
        assert_eq!(problems.check::<u8>(Ok(1)), Some(1));
        let wrong = |name| Err(SettingError::new(name, "is wrong"));
        assert_eq!(problems.check::<u8>(wrong("STOA_A")), None);
        assert_eq!(problems.check::<u8>(wrong("STOA_B")), None);
        let text = problems.finish(Some(())).unwrap_err().to_string();
        assert_eq!(
            text,
            "2 settings are wrong:\n  STOA_A: is wrong\n  STOA_B: is wrong"
        );
    }
}
