//! A row of the table of settings.

/// A setting as people read about it.
pub struct Setting {
    pub group: Group,
    pub name: &'static str,
    /// What it may hold.
    pub values: &'static str,
    /// What holds if it is not set.
    pub default: &'static str,
    pub about: &'static str,
    /// Never shown.
    pub is_secret: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    General,
    Databases,
    EventBus,
    Cache,
    Router,
    Identity,
    Payments,
    Services,
    Logs,
    Development,
}

impl Group {
    pub(super) const ALL: &[(Self, &'static str)] = &[
        (Self::General, "General"),
        (Self::Databases, "Databases"),
        (Self::EventBus, "Event bus"),
        (Self::Cache, "Cache"),
        (Self::Router, "Router"),
        (Self::Identity, "Identity and secrets"),
        (Self::Payments, "Payments, tax and shipping"),
        (Self::Services, "Services in processes of their own"),
        (Self::Logs, "Logs and traces"),
        (Self::Development, "Development"),
    ];
}

pub(super) const fn setting(
    group: Group,
    name: &'static str,
    values: &'static str,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        group,
        name,
        values,
        default,
        about,
        is_secret: false,
    }
}

pub(super) const fn secret(
    group: Group,
    name: &'static str,
    values: &'static str,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        is_secret: true,
        ..setting(group, name, values, default, about)
    }
}
