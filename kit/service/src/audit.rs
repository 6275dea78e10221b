//! Invariants as SQL queries: each selects the rows that violate one.

use sea_orm::{ConnectionTrait, DbErr, Statement};

/// At most this many violations of one rule are reported.
const LIMIT: usize = 100;

/// A rule, and the query for the rows that violate it.
pub struct Rule {
    pub name: &'static str,
    /// Selects `subject` and `detail`, both text.
    pub sql: &'static str,
}

/// A row that violates a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub subject: String,
    pub detail: String,
}

/// Finds the violations of the rules, up to a hundred of each.
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

/// Finds the violations of one rule, by a query like a [`Rule`]'s.
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

/// The single number that a query returns.
///
/// # Errors
/// If the database fails.
pub async fn count<C: ConnectionTrait>(db: &C, sql: &str) -> Result<u64, DbErr> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await?;
    let number: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(number.unsigned_abs())
}
