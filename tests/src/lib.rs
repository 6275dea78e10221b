//! Boots whole systems and speaks to them as clients do.
