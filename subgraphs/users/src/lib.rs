//! The users subgraph: accounts, sessions and access tokens.
