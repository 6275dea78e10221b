//! What is wrong with a client's input: returned as `userErrors`, for the
//! client to correct.

use serde::{Deserialize, Serialize};

use crate::idempotency::ClaimOutcome;

/// One thing that is wrong; `C` is the service's enum of codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem<C> {
    /// The path of the argument, such as `["input", "lines"]`.
    pub field: Vec<String>,
    pub code: C,
    /// For people.
    pub message: String,
}

impl<C> Problem<C> {
    pub fn new(field: &[&str], code: C, message: impl Into<String>) -> Self {
        Self {
            field: field.iter().map(|&part| part.to_owned()).collect(),
            code,
            message: message.into(),
        }
    }
}

/// The codes that a service with idempotency keys has.
pub trait IdempotencyCodes: Sized {
    const INVALID: Self;
    const IN_PROGRESS: Self;
    const REUSED: Self;
}

impl<C: IdempotencyCodes> Problem<C> {
    /// The client's key is empty, too long, or holds control characters.
    pub fn invalid_key() -> Self {
        let message = "must have between 1 and 128 characters";
        Self::new(&["idempotencyKey"], C::INVALID, message)
    }

    /// The key's claim was not acquired.
    pub fn key_conflict(claim: &ClaimOutcome) -> Self {
        let (code, message) = if *claim == ClaimOutcome::InProgress {
            (
                C::IN_PROGRESS,
                "a request with this key is still running; repeat it in a moment",
            )
        } else {
            (C::REUSED, "was used for another request; take a fresh key")
        };
        Self::new(&["idempotencyKey"], code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Code {
        Invalid,
        InProgress,
        Reused,
    }

    impl IdempotencyCodes for Code {
        const INVALID: Self = Self::Invalid;
        const IN_PROGRESS: Self = Self::InProgress;
        const REUSED: Self = Self::Reused;
    }

    #[test]
    fn each_trouble_with_an_idempotency_key_has_its_code() {
        let cases = [
            (Problem::<Code>::invalid_key(), Code::Invalid),
            (
                Problem::key_conflict(&ClaimOutcome::InProgress),
                Code::InProgress,
            ),
            (Problem::key_conflict(&ClaimOutcome::Reused), Code::Reused),
        ];
        for (problem, code) in cases {
            assert_eq!(problem.code, code);
            assert_eq!(problem.field, ["idempotencyKey"]);
        }
    }
}
