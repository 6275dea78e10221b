//! What a command prints for people. A reader that has seen enough (`stoa ... |
//! head`) closes the pipe: then the command ends quietly.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Prints a line.
pub fn line(text: impl Display) {
    write(format_args!("{text}\n"));
}

/// Prints a text as it is.
pub fn text(text: impl Display) {
    write(format_args!("{text}"));
}

/// Prints a line that is for a person who is watching: a server continues if it cannot be written.
pub fn notice(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn write(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // Nowhere is left to say that standard output cannot be written.
        _ => {}
    }
}
