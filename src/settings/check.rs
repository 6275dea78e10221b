//! `stoa config check`: what is set, where, and what is wrong.

use stoa_runtime::settings::{Origin, SettingErrors, all_set, read};

use super::table;
use crate::output::line;

/// A warning for each name that begins with `STOA_` and is no setting.
pub fn unknown_names() -> Vec<String> {
    all_set()
        .into_keys()
        .filter_map(|name| {
            let nearest = table::nearest(&name).err()?;
            Some(format!(
                "{name} is no setting and is ignored; did you mean {nearest}?"
            ))
        })
        .collect()
}

/// Prints what is set, without secrets, then warnings, then what is wrong.
///
/// # Errors
/// What is wrong.
pub fn print(checked: Result<(), SettingErrors>) -> Result<(), SettingErrors> {
    let mut any = false;
    for (name, origin) in all_set() {
        let Some(setting) = table::find(&name) else {
            continue;
        };
        any = true;
        let value = match setting.is_secret {
            true => "(hidden)".to_owned(),
            false => read(&name).unwrap_or_default(),
        };
        let origin = match origin {
            Origin::Environment => "environment",
            Origin::File => "file",
        };
        line(format_args!("{name:<34} {value}  ({origin})"));
    }
    if !any {
        line("nothing is set: every setting has its default (stoa --help shows them)");
    }
    for warning in unknown_names() {
        line(format_args!("warning: {warning}"));
    }
    checked?;
    line("the settings are valid");
    Ok(())
}
