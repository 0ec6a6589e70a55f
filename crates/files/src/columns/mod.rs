//! Rows with columns: which share a file, and what its schema is.
//!
//! ```text
//! encode   value ─ visit ─▶ tape ─ check ─▶ row, shape           rows.rs, tape, shapes.rs, infer.rs
//! cut      schemas met, kinds seen ─▶ one schema per shape ─▶ plan     shapes.rs, plan.rs
//! build    tape ─ walk by the plan ─▶ cells, in the schema's order     walk.rs, scalar.rs
//! ```
//!
//! A row is checked when it is encoded by the very walk that builds its file, with a writer of cells that keeps nothing. So
//! what does not fit is a poison of one record, and no file fails at the cut.

mod infer;
mod misfit;
mod plan;
mod rows;
mod scalar;
mod shapes;
mod walk;
mod wide;

#[cfg(any(feature = "avro", feature = "parquet"))]
pub(crate) use plan::Node;
pub(crate) use plan::{Kind, Plan};
pub use rows::UnknownMembers;
pub(crate) use rows::{CellWriter, ColumnOptions, Columnar, StructuredRows};
pub(crate) use walk::Cells;
pub(crate) use wide::Wide;

/// The methods that every format of columns has, for a builder with `columns: ColumnOptions`.
macro_rules! column_options {
    () => {
        /// Declares the schema of all values. Of schemas that values come with only unions are looked at: they say which branch of
        /// theirs a value is of.
        ///
        /// A value that lacks a field takes its default, or null; lacks it either, it is a poison, and so is what is of another kind
        /// or out of range. Text stands for what JSON has no kind for: dates, times and timestamps in ISO 8601, decimals, UUIDs,
        /// bytes as base64. Whole numbers stand for dates, times and timestamps as well, in the declared unit.
        #[must_use]
        pub fn with_schema(mut self, schema: impl Into<std::sync::Arc<aqueduct_core::Schema>>) -> Self {
            self.columns.schema = Some(schema.into());
            self
        }

        /// Infers schemas where values have none. That is how it begins; it takes [`with_schema`](Self::with_schema) back.
        ///
        /// Whole numbers are `int64`, and `float64` together with fractions; objects are structs with a field for each name
        /// met, lists have what their elements have in common, null alone is `string`. What has nothing in common is JSON text. All
        /// fields may be null, and stand in order of their first appearance in the segment. A schema has at most 1 000 places, of
        /// which 256 below lists, and nests 15 levels: what is beyond is JSON text, beginning with the object that has the most
        /// members. Records that still have no place are stored in files of their own, whole, as one column `value` of JSON text.
        #[must_use]
        pub fn infer_schema(mut self) -> Self {
            self.columns.schema = None;
            self
        }

        /// Sets what becomes of members that the declared schema does not have.
        #[must_use]
        pub fn with_unknown_members(mut self, unknown: $crate::UnknownMembers) -> Self {
            self.columns.unknown = unknown;
            self
        }

        /// Sets which schemas share files.
        #[must_use]
        pub fn with_compatibility(mut self, compatibility: aqueduct_core::Compatibility) -> Self {
            self.columns.compatibility = compatibility;
            self
        }
    };
}
pub(crate) use column_options;

#[cfg(test)]
pub(crate) mod tests;
