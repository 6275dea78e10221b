//! The orders subgraph: placing, paying and fulfilling orders.
