//! The tape: the compact form in which a structured value waits in the spool until its file is built.
//!
//! Files with columns and headers are built at the cut, when the schema of all their rows is known. Until then a row is the
//! events of its [visit](aqueduct_core::StructuredValue::visit), a byte or two for each and the text of strings: about half of
//! the JSON it came from. Names of members are numbers of a table that the segment has in memory.
//!
//! ```text
//! 00…3f  whole number 0…63          c0 null   c1 false   c2 true        d6 duration: months, days, milliseconds
//! 40…7f  text of 0…63 bytes         c3 i64    c4 u64     c5 f32 c6 f64   d7 member, by number
//! 80…bf  member, numbers 0…63       c7 number as text    c8 decimal      d8 member or entry, spelled out
//!                                   c9 text   ca bytes   cb UUID         d9 struct  da map  db list
//!                                   cc date   cd…cf time d0…d5 timestamp dc branch of a union
//! ```
//!
//! Whole numbers are variable in length, seven bits a byte, zig-zag if they have a sign; floats are raw, little endian. A
//! struct, map or list has the length of its parts in front, four bytes, so that any value is passed over in one step.
//! Nothing of this outlives a segment.

mod form;
mod names;
mod read;
mod write;

pub(crate) use names::Names;
pub(crate) use read::{Damaged, Item, Name, Tape, replay};
pub(crate) use write::{TapeState, TapeWriter};

mod tag {
    pub(super) const TEXT: u8 = 0x40;
    pub(super) const MEMBER: u8 = 0x80;
    /// How many of each lie in the tag itself.
    pub(super) const INLINE: u8 = 0x40;
    pub(super) const NULL: u8 = 0xc0;
    pub(super) const FALSE: u8 = 0xc1;
    pub(super) const TRUE: u8 = 0xc2;
    pub(super) const I64: u8 = 0xc3;
    pub(super) const U64: u8 = 0xc4;
    pub(super) const F32: u8 = 0xc5;
    pub(super) const F64: u8 = 0xc6;
    pub(super) const NUMBER: u8 = 0xc7;
    pub(super) const DECIMAL: u8 = 0xc8;
    pub(super) const LONG_TEXT: u8 = 0xc9;
    pub(super) const BYTES: u8 = 0xca;
    pub(super) const UUID: u8 = 0xcb;
    pub(super) const DATE: u8 = 0xcc;
    /// And the two after it: milliseconds, microseconds, nanoseconds.
    pub(super) const TIME: u8 = 0xcd;
    /// UTC in three units, then local in three units.
    pub(super) const TIMESTAMP: u8 = 0xd0;
    pub(super) const DURATION: u8 = 0xd6;
    pub(super) const LONG_MEMBER: u8 = 0xd7;
    pub(super) const SPELLED: u8 = 0xd8;
    pub(super) const STRUCT: u8 = 0xd9;
    pub(super) const MAP: u8 = 0xda;
    pub(super) const LIST: u8 = 0xdb;
    pub(super) const BRANCH: u8 = 0xdc;
}

#[cfg(test)]
pub(crate) mod tests;
