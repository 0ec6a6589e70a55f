//! A broker, or what it keeps, in trouble.

pub(crate) mod broker;
pub(crate) mod commit;
pub(crate) mod compacted;
pub(crate) mod coordinator;
pub(crate) mod offsets;
pub(crate) mod pending;
pub(crate) mod recreated;
pub(crate) mod reset;
pub(crate) mod retention;
pub(crate) mod secured;
pub(crate) mod static_member;
pub(crate) mod transactions;
pub(crate) mod two;
