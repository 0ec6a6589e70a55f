//! Records and settings: many, bad, wrong, and none.

pub(crate) mod mistakes;
pub(crate) mod poison;
pub(crate) mod quiet;
pub(crate) mod tail;
pub(crate) mod timestamps;
pub(crate) mod volume;
