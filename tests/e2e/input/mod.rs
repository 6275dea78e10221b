//! Invalid input to every mutation: each returns its documented error code, and changes
//! no row of any database.

mod cases;

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Value, json};
use stoa_service::database::{Database, PoolOptions};
use stoa_tests::client::text;
use stoa_tests::{Client, Mode, Servers, Shop, servers};

use crate::support::*;

/// Tables that record attempts, so a rejected mutation may change them.
const ATTEMPTS: [&str; 1] = ["idempotency"];
const SERVICES: [&str; 4] = ["users", "products", "orders", "notifications"];

/// A mutation with valid variables, and its invalid variants: the JSON pointer, the bad
/// value and the expected code. `null` is sent as such; "absent" removes the variable.
struct Case {
    query: String,
    fine: Value,
    wrong: Vec<(&'static str, Value, &'static str)>,
    /// The users who may not do it, with the expected code.
    forbidden: Vec<(Who, &'static str)>,
    by: Who,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Nobody,
    Ada,
    Lin,
    Admin,
}

use Who::{Ada, Admin, Lin, Nobody};

fn absent() -> Value {
    json!("absent")
}

fn long(length: usize) -> Value {
    json!("x".repeat(length))
}

pub fn of_every_mutation() {
    every_mutation(&Shop::start(Mode::One), None);
}

pub fn of_every_mutation_on_postgresql() {
    if !servers::replicas_available() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("stoa-input-{}", key()));
    let servers = Servers::start_some(&folder, &["postgres"]);
    let shop = on_postgresql(&servers);
    every_mutation(&shop, Some(&servers));
    drop(shop);
    drop(servers);
    let _ = std::fs::remove_dir_all(&folder);
}

fn every_mutation(shop: &Shop, servers: Option<&Servers>) {
    block_on(async {
        let people = [
            (Nobody, shop.client()),
            (Ada, shop.sign_in("ada").await),
            (Lin, shop.sign_in("lin").await),
            (Admin, shop.sign_in("admin").await),
        ];
        let client = |who: Who| &people.iter().find(|(known, _)| *known == who).unwrap().1;
        let cases = cases::cases(&people).await;
        let introspection = client(Nobody)
            .ok(
                "{ __schema { mutationType { fields { name } } } }",
                json!({}),
            )
            .await;
        for field in introspection["__schema"]["mutationType"]["fields"]
            .as_array()
            .unwrap()
        {
            let name = format!("done: {}", text(field, "/name"));
            let called = |case: &Case| {
                let rest = case.query.split(&name).nth(1);
                rest.is_some_and(|rest| rest.starts_with(['(', ' ']))
            };
            assert!(cases.iter().any(called), "nothing is wrong with {name}");
        }
        // Background work would change rows too, so wait until it is done.
        eventually("nothing is under way", || async {
            shop.doctor().contains("0 violations, 0 unfinished")
        })
        .await;
        let mut before = rows(shop, servers).await;
        let mut failures: Vec<String> = Vec::new();
        let mut tried = 0;
        for case in &cases {
            for (pointer, value, expected) in &case.wrong {
                let mut variables = case.fine.clone();
                put(&mut variables, pointer, value);
                let found = code_of(client(case.by), &case.query, variables).await;
                if found != *expected {
                    let input: String = value.to_string().chars().take(80).collect();
                    failures.push(format!(
                        "{pointer} = {input} gives {found:?}, not {expected}: {}",
                        case.query
                    ));
                }
                tried += 1;
            }
            for (who, expected) in &case.forbidden {
                let found = code_of(client(*who), &case.query, case.fine.clone()).await;
                if found != *expected {
                    failures.push(format!("{who:?} gets {found:?}: {}", case.query));
                }
                tried += 1;
            }
            let after = rows(shop, servers).await;
            for (table, rows) in &before {
                if Some(rows) != after.get(table) {
                    failures.push(format!("{table} has changed: {}", case.query));
                }
            }
            before = after;
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        println!("{tried} bad inputs, and no row changed");
        assert!(tried > 150, "{tried}");
    });
}

/// Sets a variable, or removes it.
fn put(variables: &mut Value, pointer: &str, value: &Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = variables.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
        parent if *value == absent() => {
            parent.as_object_mut().unwrap().remove(name);
        }
        parent => parent[name] = value.clone(),
    }
}

/// The code of a response's first error or user error; "" if there is none.
async fn code_of(client: &Client, query: &str, variables: Value) -> String {
    let answer = client.query(query, variables).await;
    let places = ["/errors/0/extensions/code", "/data/done/userErrors/0/code"];
    let mut found = places
        .iter()
        .filter_map(|place| answer.pointer(place)?.as_str());
    found.next().unwrap_or_default().to_owned()
}

/// All rows of each table, as one string per table.
async fn rows(shop: &Shop, servers: Option<&Servers>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for service in SERVICES {
        let url = match servers {
            Some(servers) => servers.database(service),
            None => format!("sqlite://{}", shop.database_file(service).display()),
        };
        let pool = PoolOptions { connections: 1 };
        let database = Database::connect(&url, &pool).await.unwrap();
        let db = database.read();
        let backend = db.get_database_backend();
        let names = match backend {
            DbBackend::Postgres => {
                "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
            }
            _ => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%search%' AND name NOT LIKE 'sqlite%'"
            }
        };
        for row in db
            .query_all_raw(Statement::from_string(backend, names))
            .await
            .unwrap()
        {
            let table: String = row.try_get("", "name").unwrap();
            if ATTEMPTS.contains(&table.as_str()) {
                continue;
            }
            let sql = match backend {
                DbBackend::Postgres => format!(
                    "SELECT COALESCE(string_agg(t::text, '|' ORDER BY t::text), '') AS rows FROM \"{table}\" t"
                ),
                _ => format!(
                    "SELECT COALESCE(group_concat(line, '|'), '') AS rows FROM (SELECT {} AS line FROM \"{table}\" ORDER BY line)",
                    columns(&database, &table).await
                ),
            };
            let found = db.query_one_raw(Statement::from_string(backend, sql)).await;
            let rows: String = found.unwrap().unwrap().try_get("", "rows").unwrap();
            all.insert(format!("{service}.{table}"), rows);
        }
        database.close().await;
    }
    all
}

async fn columns(database: &Database, table: &str) -> String {
    let db = database.read();
    let sql = format!("SELECT name FROM pragma_table_info('{table}')");
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let columns = db.query_all_raw(statement).await.unwrap().into_iter();
    let columns = columns.map(|row| {
        let name: String = row.try_get("", "name").unwrap();
        format!("quote(\"{name}\")")
    });
    columns.collect::<Vec<_>>().join(" || ',' || ")
}

/// `done: NAME(ARGUMENTS)`, with the arguments as variables.
fn mutation(name: &str, arguments: &[(&str, &str)]) -> String {
    if arguments.is_empty() {
        return format!("mutation {{ done: {name} {{ userErrors {{ field code message }} }} }}");
    }
    let declared = arguments
        .iter()
        .map(|(name, kind)| format!("${name}: {kind}"));
    let given = arguments.iter().map(|(name, _)| format!("{name}: ${name}"));
    format!(
        "mutation ({}) {{ done: {name}({}) {{ userErrors {{ field code message }} }} }}",
        declared.collect::<Vec<_>>().join(", "),
        given.collect::<Vec<_>>().join(", ")
    )
}
