//! The Stoa supergraph as a library.
