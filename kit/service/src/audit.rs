//! Invariants as queries: each finds the rows that break one.

use sea_orm::{ConnectionTrait, DbErr, Statement};

/// At most this many breaches of one rule are told.
const LIMIT: usize = 100;

/// A rule, and the rows that break it: what about, and how.
pub struct Rule {
    pub name: &'static str,
    /// Selects `subject` and `detail`, both text.
    pub sql: &'static str,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub subject: String,
    pub detail: String,
}

/// Finds what breaks the rules, up to a hundred rows of each.
///
/// # Errors
/// If the database fails.
pub async fn check<C: ConnectionTrait>(db: &C, rules: &[Rule]) -> Result<Vec<Violation>, DbErr> {
    let mut found = Vec::new();
    for rule in rules {
        found.extend(find(db, rule.name, rule.sql).await?);
    }
    Ok(found)
}

/// Finds what breaks one rule, by a query like a [`Rule`]'s.
///
/// # Errors
/// If the database fails.
pub async fn find<C: ConnectionTrait>(
    db: &C,
    rule: &'static str,
    sql: &str,
) -> Result<Vec<Violation>, DbErr> {
    let sql = format!("{sql} LIMIT {LIMIT}");
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Violation {
                rule,
                subject: row.try_get("", "subject")?,
                detail: row.try_get("", "detail")?,
            })
        })
        .collect()
}

/// The one number that a query answers.
///
/// # Errors
/// If the database fails.
pub async fn count<C: ConnectionTrait>(db: &C, sql: &str) -> Result<u64, DbErr> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await?;
    let number: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(number.unsigned_abs())
}
