//! The products subgraph: catalogue, categories, search and stock.
