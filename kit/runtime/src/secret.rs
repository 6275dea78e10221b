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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const NAME: &str = "STOA_TEST_SECRET";

    #[test]
    fn a_generated_secret_is_kept_and_known_as_one_of_development() {
        let folder = tempfile::tempdir().unwrap();
        let first = generated(NAME, folder.path()).unwrap();
        let first = first.expose_secret();
        assert!(first.starts_with(DEVELOPMENT_PREFIX), "{first}");
        let second = generated(NAME, folder.path()).unwrap();
        assert_eq!(second.expose_secret(), first);
        let other = generated("STOA_OTHER_SECRET", folder.path()).unwrap();
        assert_ne!(other.expose_secret(), first);
    }

    #[test]
    #[cfg(unix)]
    fn only_the_owner_reads_a_generated_secret() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        generated(NAME, folder.path()).unwrap();
        let file = folder.path().join("secrets/stoa_test_secret");
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_that_was_cut_off_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets/stoa_test_secret");
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(file, "development-only-1234").unwrap();
        let refused = generated(NAME, folder.path()).unwrap_err();
        assert_eq!(refused.name, NAME);
        assert!(refused.problem.contains("cut off"), "{refused}");
    }

    #[test]
    fn processes_that_start_together_have_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let start = std::sync::Barrier::new(8);
        let values: Vec<String> = std::thread::scope(|scope| {
            let process = |number: usize| {
                start.wait();
                load_or_generate(NAME, path, || format!("secret {number}")).unwrap()
            };
            let threads: Vec<_> = (0..8)
                .map(|number| scope.spawn(move || process(number)))
                .collect();
            let values = threads.into_iter().map(|thread| thread.join().unwrap());
            values.collect()
        });
        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
        // No draft is left behind.
        let files = std::fs::read_dir(path.join("secrets")).unwrap();
        assert_eq!(files.count(), 1);
    }
}
