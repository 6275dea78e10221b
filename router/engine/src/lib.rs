//! Executes query plans against subgraphs through one transport trait.
