//! Workers that die, freeze, come and go.

pub(crate) mod failpoints;
pub(crate) mod kill;
pub(crate) mod members;
pub(crate) mod protocol;
pub(crate) mod rejoin;
pub(crate) mod shutdown;
pub(crate) mod storm;
pub(crate) mod zombie;
