//! Records and settings: many, bad, and wrong.

pub(crate) mod mistakes;
pub(crate) mod poison;
pub(crate) mod volume;
