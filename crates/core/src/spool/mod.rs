//! Scratch disk: where the records of open segments wait.
//!
//! The spool is scratch, Kafka is the log. Nothing here is synced, resumed or kept readable for a later version: a
//! process that starts wipes what its predecessor left in *its own* directory and reads again from the mark. That
//! removes the class of bugs durable buffers have. What is read back is verified by whoever wrote it (row checksums),
//! because bit rot must not be published.
//!
//! ```text
//! <directory>/aqueduct-spool-<pipeline id>/    created by us, mode 0700
//!     aqueduct-spool                           the marker; locked while a process uses the directory
//!     00000000000000a7                         one file of one segment, named by a number and never by data
//! ```
//!
//! Every byte is paid from the disk pool *before* it is written ([`Scratch::reserve`]), and the file system is asked
//! whether it has the room, so that a full disk is met between batches, where a lane can still cut and publish what it
//! has, and not in the middle of a write.

mod failure;
mod file;
mod fs;
mod scratch;
#[cfg(test)]
mod tests;

pub use file::ScratchFile;
pub use fs::{Disk, DiskFile, LocalDisk, Offload};
pub use scratch::{Scratch, Spool, SpoolError};
