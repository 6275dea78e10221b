//! The notifications subgraph: inbox and live order status.
