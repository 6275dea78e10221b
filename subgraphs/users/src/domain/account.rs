//! Accounts, and the rules for what a person may enter.

use stoa_runtime::clock::Micros;
use stoa_runtime::identity::Role;
use stoa_schema::UserId;

use super::{Problem, ProblemCode};

pub const MAX_NAME: usize = 100;
const MAX_EMAIL: usize = 254;
const MIN_PASSWORD: usize = 10;
/// Longer ones cost time to hash and add nothing.
pub const MAX_PASSWORD: usize = 200;

#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub id: UserId,
    /// In lower case.
    pub email: String,
    pub password_hash: String,
    pub first_name: String,
    pub last_name: String,
    pub role: Role,
    pub is_active: bool,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// The data of a new account.
#[derive(Debug, Clone)]
pub struct Registration {
    pub email: String,
    pub password: String,
    pub first_name: String,
    pub last_name: String,
}

/// An e-mail address as it is stored and compared.
pub fn normalize_email(email: &str) -> String {
    email.trim().to_lowercase()
}

pub fn email_problem(email: &str) -> Option<Problem> {
    let fits = email.len() <= MAX_EMAIL
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.len() <= 64
                && !domain.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| {
                    !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-')
                })
        });
    (!fits).then(|| {
        Problem::new(
            &["input", "email"],
            ProblemCode::Invalid,
            "is not an e-mail address, such as ada@example.com",
        )
    })
}

/// Length counts most; beyond that only easily guessed passwords are refused.
pub fn password_problem(password: &str, email: &str) -> Option<Problem> {
    let length = password.chars().count();
    let lower = password.to_lowercase();
    let local = email.split('@').next().unwrap_or_default();
    let mut distinct: Vec<char> = lower.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let message = if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&length) {
        format!("must have between {MIN_PASSWORD} and {MAX_PASSWORD} characters")
    } else if distinct.len() < 5 {
        "must have at least 5 different characters".to_owned()
    } else if COMMON
        .iter()
        .any(|common| lower.starts_with(common) && length < common.len() + 4)
    {
        "is too easy to guess".to_owned()
    } else if local.len() >= 4 && lower.contains(local) {
        "must not contain the e-mail address".to_owned()
    } else {
        return None;
    };
    Some(Problem::new(
        &["input", "password"],
        ProblemCode::WeakPassword,
        message,
    ))
}

const COMMON: &[&str] = &[
    "password",
    "passw0rd",
    "1234567890",
    "0123456789",
    "qwertyuiop",
    "qwerty1234",
    "abcdefghij",
    "abcd1234",
    "iloveyou",
    "letmein",
    "welcome",
    "administrator",
    "changeme",
];

pub fn name_problem(field: &str, name: &str) -> Option<Problem> {
    let length = name.trim().chars().count();
    let fits = (1..=MAX_NAME).contains(&length) && !name.chars().any(char::is_control);
    (!fits).then(|| {
        Problem::new(
            &["input", field],
            ProblemCode::Invalid,
            format!(
                "must have between 1 and {MAX_NAME} characters, none of them control characters"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_compared_in_lower_case_and_without_spaces_around_it() {
        let cases = [
            ("ada@stoa.test", "ada@stoa.test"),
            (" Ada@STOA.test\n", "ada@stoa.test"),
            ("ÜNÜ@exämple.de", "ünü@exämple.de"),
            ("a da@stoa.test", "a da@stoa.test"),
            ("", ""),
        ];
        for (written, stored) in cases {
            assert_eq!(normalize_email(written), stored, "{written:?}");
        }
    }

    #[test]
    fn an_address_has_a_local_part_and_a_domain_with_a_dot() {
        let longest = format!("{}@{}.co", "a".repeat(64), "b".repeat(186));
        assert_eq!(longest.len(), MAX_EMAIL);
        let good = [
            "ada@stoa.test",
            "a.b+c@sub.example.co",
            "ü@exämple.de",
            &longest,
        ];
        for good in good {
            assert_eq!(email_problem(good), None, "{good}");
        }
        let too_long = format!("{}@{}.co", "a".repeat(64), "b".repeat(187));
        let local_too_long = format!("{}@b.co", "a".repeat(65));
        let bad = [
            "",
            "a",
            "@b.c",
            "a@b",
            "a@b..c",
            "a@b.c.",
            "a b@c.d",
            "a@b@c.d",
            "a@.c",
            "a@b_c.d",
            "a\0@b.c",
            &too_long,
            &local_too_long,
        ];
        for bad in bad {
            let problem = email_problem(bad).unwrap();
            assert_eq!(problem.field, ["input", "email"], "{bad:?}");
            assert_eq!(problem.code, ProblemCode::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_long_enough_and_not_easy_to_guess() {
        let longest = "x1y2z".repeat(40);
        let good = [
            "stoa-demo-password",
            "correct horse battery",
            "1x2y3z4w5v",
            "größe-größ",
            "password and more",
            &longest,
        ];
        for good in good {
            assert_eq!(password_problem(good, "ada@stoa.test"), None, "{good}");
        }
        let too_long = format!("{longest}x");
        let cases = [
            ("", "between 10 and 200"),
            ("1x2y3z4w5", "between 10 and 200"),
            ("größe-grö", "between 10 and 200"),
            (&*too_long, "between 10 and 200"),
            ("aaaaaaaaaaaa", "5 different"),
            ("abcdabcdABCD", "5 different"),
            ("password123", "easy to guess"),
            ("PASSWORD123", "easy to guess"),
            ("qwertyuiop", "easy to guess"),
            ("margaret-12", "e-mail address"),
            ("my MARGARET", "e-mail address"),
        ];
        for (bad, reason) in cases {
            let problem = password_problem(bad, "margaret@x.y").unwrap();
            assert_eq!(problem.field, ["input", "password"], "{bad}");
            assert_eq!(problem.code, ProblemCode::WeakPassword, "{bad}");
            assert!(problem.message.contains(reason), "{bad}: {problem:?}");
        }
        // A short name is in many words.
        assert_eq!(password_problem("a bandana, red", "ada@stoa.test"), None);
    }

    #[test]
    fn a_name_has_1_to_100_characters_besides_spaces_around_it() {
        let longest = "ü".repeat(MAX_NAME);
        for good in [
            "A",
            " Ada ",
            "de la Cruz",
            &longest,
            &format!(" {longest} "),
        ] {
            assert_eq!(name_problem("firstName", good), None, "{good}");
        }
        for bad in ["", "  ", "a\nb", "a\0", &format!("{longest}ü")] {
            let problem = name_problem("firstName", bad).unwrap();
            assert_eq!(problem.field, ["input", "firstName"], "{bad:?}");
            assert_eq!(problem.code, ProblemCode::Invalid, "{bad:?}");
        }
    }
}
