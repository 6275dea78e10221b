//! Diagnostics of composition: a published code, a message and source positions.

use std::fmt;

use apollo_compiler::parser::{SourceMap, SourceSpan};
use serde::Serialize;

/// A position in one subgraph's SDL; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    pub subgraph: String,
    pub line: usize,
    pub column: usize,
}

impl Location {
    /// The position of `span`, if the node came from a source file.
    pub fn from_span(
        subgraph: &str,
        span: Option<SourceSpan>,
        sources: &SourceMap,
    ) -> Option<Self> {
        let position = span?.line_column(sources)?;
        Some(Self {
            subgraph: subgraph.to_owned(),
            line: position.line,
            column: position.column,
        })
    }
}

/// The position of a parser's or validator's diagnostic.
pub(crate) fn diagnostic_location(
    subgraph: &str,
    diagnostic: &apollo_compiler::diagnostic::Diagnostic<
        '_,
        apollo_compiler::validation::DiagnosticData,
    >,
) -> Option<Location> {
    let range = diagnostic.line_column_range()?;
    Some(Location {
        subgraph: subgraph.to_owned(),
        line: range.start.line,
        column: range.start.column,
    })
}

/// One reason why subgraphs do not compose. The codes are those published in the
/// Apollo Federation documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompositionError {
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Location>,
}

impl CompositionError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            locations: Vec::new(),
        }
    }

    pub(crate) fn at(mut self, location: Option<Location>) -> Self {
        self.locations.extend(location);
        self
    }
}

fn located(
    f: &mut fmt::Formatter<'_>,
    code: &str,
    message: &str,
    locations: &[Location],
) -> fmt::Result {
    write!(f, "{code}: {message}")?;
    for at in locations {
        write!(f, "\n    at [{}] {}:{}", at.subgraph, at.line, at.column)?;
    }
    Ok(())
}

impl fmt::Display for CompositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        located(f, self.code, &self.message, &self.locations)
    }
}

/// The severity of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
}

/// Something valid that may be a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hint {
    pub level: Level,
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Location>,
}

impl Hint {
    pub(crate) fn new(level: Level, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            level,
            code,
            message: message.into(),
            locations: Vec::new(),
        }
    }

    pub(crate) fn at(mut self, location: Option<Location>) -> Self {
        self.locations.extend(location);
        self
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        located(f, self.code, &self.message, &self.locations)
    }
}

/// Every error found, in the order of the subgraphs; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompositionErrors(pub Vec<CompositionError>);

impl fmt::Display for CompositionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CompositionErrors {}
