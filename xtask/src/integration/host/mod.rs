//! A machine in trouble: its disk, its clock, its limits.

pub(crate) mod bits;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod removed;
mod tmpfs;

pub(crate) use tmpfs::SmallDisk;
