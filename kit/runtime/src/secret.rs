//! Secrets: from `NAME` or the file that `NAME_FILE` names; in development,
//! where neither is set, generated on first run and kept in the data folder.

use std::io::Write;
use std::path::Path;

use secrecy::SecretString;
use uuid::Uuid;

use crate::settings::{Environment, Origin, SettingError, origin, read};

/// The prefix of secrets generated for development; production refuses them.
const DEVELOPMENT_PREFIX: &str = "development-only-";
const MIN_LENGTH: usize = 32;
/// The minimum length of a secret that a third party issued.
const MIN_EXTERNAL_LENGTH: usize = 16;

/// Checks a secret that was given: at least 32 characters. `None` if there is none
/// and none is needed, or development may generate it.
///
/// # Errors
/// If it is missing in production although it is needed, too short, or made for
/// development but used in production; if its file cannot be read.
pub fn check(
    name: &str,
    environment: Environment,
    is_needed: bool,
) -> Result<Option<SecretString>, SettingError> {
    let Some(value) = read_or_file(name)? else {
        if environment.is_development() || !is_needed {
            return Ok(None);
        }
        return Err(SettingError::new(
            name,
            format!(
                "not set; in production give it, or a file's path in {name}_FILE (try: openssl rand -hex 32)"
            ),
        ));
    };
    if value.len() < MIN_LENGTH {
        return Err(SettingError::new(
            name,
            format!("shorter than {MIN_LENGTH} characters"),
        ));
    }
    if environment == Environment::Production && value.starts_with(DEVELOPMENT_PREFIX) {
        return Err(SettingError::new(
            name,
            "was made for development and is refused in production",
        ));
    }
    Ok(Some(value.into()))
}

/// A secret for development, generated on first use and kept in the data folder.
///
/// # Errors
/// If its file cannot be read or created.
pub fn generated(name: &str, data_dir: &Path) -> Result<SecretString, SettingError> {
    let value = load_or_generate(name, data_dir, || {
        format!(
            "{DEVELOPMENT_PREFIX}{}{}",
            Uuid::new_v4().simple(),
            Uuid::new_v4().simple()
        )
    })?;
    if value.len() < MIN_LENGTH {
        return Err(SettingError::new(
            name,
            "its file in the data folder was cut off; delete the file, and another is generated",
        ));
    }
    Ok(value.into())
}

/// Reads a secret that a third party issued: it cannot be generated.
///
/// # Errors
/// If it is missing or too short, or its file cannot be read.
pub fn load_external(name: &str) -> Result<SecretString, SettingError> {
    let value = read_or_file(name)?.filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| {
        SettingError::new(
            name,
            format!("not set; give it, or a file's path in {name}_FILE"),
        )
    })?;
    if value.len() < MIN_EXTERNAL_LENGTH {
        return Err(SettingError::new(
            name,
            format!("shorter than {MIN_EXTERNAL_LENGTH} characters"),
        ));
    }
    Ok(value.into())
}

/// The value of `NAME`, or what is in the file that `NAME_FILE` names.
fn read_or_file(name: &str) -> Result<Option<String>, SettingError> {
    let name_of_path = format!("{name}_FILE");
    // The environment wins, by whichever of the two names.
    let path_wins = origin(&name_of_path) == Some(Origin::Environment)
        && origin(name) != Some(Origin::Environment);
    if !path_wins && let Some(value) = read(name) {
        return Ok(Some(value));
    }
    let Some(path) = read(&name_of_path) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| SettingError::new(name, format!("cannot read {path}: {error}")))?;
    Ok(Some(text.trim().to_owned()))
}

/// Reads a value kept in the data folder, generating it on first use. Two
/// processes that start together end up with the same value.
///
/// # Errors
/// If the file cannot be read or written.
pub fn load_or_generate(
    name: &str,
    data_dir: &Path,
    generate: impl FnOnce() -> String,
) -> Result<String, SettingError> {
    let folder = data_dir.join("secrets");
    let path = folder.join(name.to_ascii_lowercase());
    let failed = |what: &str, error: std::io::Error| {
        SettingError::new(name, format!("cannot {what} {}: {error}", path.display()))
    };
    match std::fs::read_to_string(&path) {
        Ok(value) => return Ok(value.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", error)),
    }
    std::fs::create_dir_all(&folder).map_err(|error| failed("make the folder of", error))?;
    // Written under a temporary name first: no process ever reads a partial value,
    // and the hard link fails if another process was faster.
    let draft = folder.join(format!(".{}", Uuid::new_v4()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(&draft)
        .map_err(|error| failed("write", error))?;
    file.write_all(generate().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| failed("write", error))?;
    let linked = std::fs::hard_link(&draft, &path);
    let _ = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("write", error)),
    }
    std::fs::read_to_string(&path)
        .map(|value| value.trim().to_owned())
        .map_err(|error| failed("read", error))
}
