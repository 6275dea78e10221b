//! The demo accounts: one administrator and two customers.

use stoa_runtime::identity::Role;
use stoa_schema::UserId;

use crate::app::App;
use crate::domain::Registration;
use crate::error::Error;

pub const PASSWORD: &str = "stoa-demo-password";

/// Address, first name, last name, role.
pub const ACCOUNTS: [(&str, &str, &str, Role); 3] = [
    ("admin@stoa.test", "Sam", "Keeper", Role::Admin),
    ("ada@stoa.test", "Ada", "Marlow", Role::Customer),
    ("lin@stoa.test", "Lin", "Okafor", Role::Customer),
];

/// Creates the demo accounts that do not exist yet; returns the ids of all.
///
/// # Errors
/// If the database fails.
pub async fn seed(app: &App) -> Result<Vec<UserId>, Error> {
    let mut ids = Vec::new();
    for (email, first_name, last_name, role) in ACCOUNTS {
        let account = match app.account_fetch_by_email(email).await? {
            Some(account) => account,
            None => {
                let registration = Registration {
                    email: email.to_owned(),
                    password: PASSWORD.to_owned(),
                    first_name: first_name.to_owned(),
                    last_name: last_name.to_owned(),
                };
                app.account_create(registration, role).await?
            }
        };
        ids.push(account.id);
    }
    Ok(ids)
}

/// The address of a demo account that still has the published password.
///
/// # Errors
/// If the database fails.
pub async fn has_demo_password(app: &App) -> Result<Option<&'static str>, Error> {
    for (email, ..) in ACCOUNTS {
        if app.password_matches(email, PASSWORD).await? {
            return Ok(Some(email));
        }
    }
    Ok(None)
}
