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

#[cfg(test)]
pub(crate) mod tests;
