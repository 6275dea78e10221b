//! What every service needs and no service is about.
