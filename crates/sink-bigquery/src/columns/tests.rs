//! Columns of values.
