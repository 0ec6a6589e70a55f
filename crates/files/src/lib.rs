//! Rows, files and keys: everything about writing records to a store of objects that is not the store.
//!
//! [`ObjectSink`] puts together a [`Format`] (how a record becomes a row), a [`Compression`], a [`KeyTemplate`] (how
//! objects are named) and an [`ObjectTarget`] (the store). `aqueduct-sink-s3` is the target for S3; a store of your own
//! implements [`ObjectTarget`], six calls around "create this object if its key is free".
//!
//! ```text
//! record ─ Format ─▶ row ─┐ while the segment fills          ┌─ read back, verify ─ [build] ─ compress ─ put / parts ─▶ object
//!                         └─▶ scratch disk, by object ─ cut ─┘
//! ```
//!
//! - Where a file is its rows (JSON lines, bytes) they are spooled in their final bytes, so a cut costs reading and sending, no
//!   encoding. Files with columns, a header or a footer are built at the cut by a [`FileBuilder`]: `JsonArray`, and behind the
//!   features of their names `Parquet`, `AvroFiles` and `Csv`. Their rows wait as the values' events, until the schema of their
//!   segment is known.
//! - Inside a segment a route's rows are split into objects by their bytes and shapes alone, so a replay splits them alike.
//! - Every object carries what it holds in its [metadata](IDENTITY); that is how a repeated publication knows its own.

pub use aqueduct_core::StoredLetter;
pub use beside::RecordKeys;
pub use claim::{IDENTITY, ObjectConflict, ObjectIdentity};
#[cfg(any(feature = "parquet", feature = "avro", feature = "csv"))]
pub use columns::UnknownMembers;
pub use compress::{Compression, LevelError};
#[cfg(feature = "avro")]
pub use format::avro::{AvroCompression, AvroFiles};
#[cfg(feature = "csv")]
pub use format::csv::Csv;
#[cfg(feature = "parquet")]
pub use format::parquet::{Parquet, ParquetCompression};
pub use format::{
    BuildError, BuiltRows, Delimited, Encoded, Encoder, FileBuilder, FileEncoder, FileKind, FileOutline,
    Format, JsonArray, JsonLines, RawBytes, Row, RowEncoder, Rows,
};
pub use keys::{KeyError, KeyTemplate};
pub use letters::{
    DirectoryDeadLetters, DirectoryLetters, LetterError, Letters, ObjectDeadLetters, ObjectLetters,
    read_letters,
};
pub use registry::{PartitionRegistry, StoredPartition};
pub use repair::ObjectRepairs;
pub use sink::{ObjectOptions, ObjectSink, OptionError};
pub use target::{
    Completion, Creation, ObjectHead, ObjectMeta, ObjectRead, ObjectTarget, Part, TargetLimits, Upload,
};

mod beside;
mod checksum;
mod claim;
#[cfg(any(feature = "parquet", feature = "avro", feature = "csv"))]
mod columns;
mod compress;
mod format;
mod keys;
mod letters;
mod registry;
mod repair;
mod retry;
mod sink;
#[cfg(any(feature = "parquet", feature = "avro", feature = "csv"))]
mod tape;
mod target;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod writer;
