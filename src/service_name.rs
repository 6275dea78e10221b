//! The names of the services.

/// The services, by the names that the supergraph gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum ServiceName {
    Users,
    Products,
    Orders,
    Notifications,
}

impl ServiceName {
    pub const ALL: [Self; 4] = [
        Self::Users,
        Self::Products,
        Self::Orders,
        Self::Notifications,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Products => "products",
            Self::Orders => "orders",
            Self::Notifications => "notifications",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Self::Users => 3001,
            Self::Products => 3002,
            Self::Orders => 3003,
            Self::Notifications => 3004,
        }
    }
}
