//! The users service over an embedded database, with a manual clock.

use sea_orm::ConnectionTrait;
use serde_json::Value;
use stoa_migrations::UsersMigrator;
use stoa_runtime::clock::{Clock, Micros};
use stoa_runtime::identity::{Caller, Role};
use stoa_schema::UserId;
use stoa_service::audit::count;
use stoa_service::database::{Database, PoolOptions};
use stoa_service::error::CodedError;
use stoa_users::domain::{ProblemCode, Registration};
use stoa_users::token::{SigningKey, generate_signing_key};
use stoa_users::{App, Error};
use tempfile::TempDir;

pub const NOW: Micros = 1_800_000_000_000_000;
pub const PASSWORD: &str = "a long enough secret";

pub struct Fixture {
    pub app: App,
    pub clock: Clock,
    /// The public key of access tokens.
    pub jwks: Value,
    database: Database,
    _folder: TempDir,
}

/// An account, as its owner calls.
pub struct Member {
    pub id: UserId,
    pub email: String,
    pub caller: Caller,
    pub refresh_token: String,
}

pub fn registration(email: &str) -> Registration {
    Registration {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Marlow".to_owned(),
    }
}

pub fn user(id: &UserId, role: Role) -> Caller {
    let id = id.to_string();
    Caller::User { id, role }
}

/// The field and the code of everything that is wrong with the input.
pub fn problems<T: std::fmt::Debug>(done: Result<T, Error>) -> Vec<(String, ProblemCode)> {
    let Err(Error::Invalid(problems)) = done else {
        panic!("{done:?}");
    };
    let problems = problems.into_iter();
    problems
        .map(|problem| (problem.field.join("."), problem.code))
        .collect()
}

pub fn problem(field: &str, code: ProblemCode) -> Vec<(String, ProblemCode)> {
    vec![(field.to_owned(), code)]
}

pub fn code<T: std::fmt::Debug>(done: Result<T, Error>) -> &'static str {
    done.unwrap_err().code()
}

impl Fixture {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("users.db").display());
        let database = Database::connect(&url, &PoolOptions::default())
            .await
            .unwrap();
        database.migrate::<UsersMigrator>().await.unwrap();
        let clock = Clock::manual(NOW);
        let key = SigningKey::from_pem(&generate_signing_key()).unwrap();
        Self {
            jwks: key.jwks(),
            app: App::new(database.clone(), clock.clone(), key),
            clock,
            database,
            _folder: folder,
        }
    }

    /// Registers an account, which signs it in.
    pub async fn register(&self) -> Member {
        let email = format!("{}@example.test", stoa_schema::ids::new_id());
        let registered = self.app.account_register(registration(&email)).await;
        let (account, session) = registered.unwrap();
        Member {
            caller: user(&account.id, Role::Customer),
            id: account.id,
            email,
            refresh_token: session.refresh_token,
        }
    }

    /// The next refresh token; `None` if this one is refused.
    pub async fn refresh(&self, token: &str) -> Option<String> {
        match self.app.session_refresh(token).await {
            Ok((_, session)) => Some(session.refresh_token),
            Err(error) => {
                let expected = problem("refreshToken", ProblemCode::InvalidRefreshToken);
                assert_eq!(problems::<()>(Err(error)), expected);
                None
            }
        }
    }

    /// Changes rows as an operator does.
    pub async fn run(&self, sql: &str) {
        let txn = self.database.begin().await.unwrap();
        txn.execute_unprepared(sql).await.unwrap();
        txn.commit().await.unwrap();
    }

    pub async fn rows(&self, table: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        count(self.database.read(), &sql).await.unwrap()
    }
}
