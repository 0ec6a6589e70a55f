//! The form of a row: which parts it has, whatever their values.
//!
//! What columns values without a schema need depends on their form alone. Most have that of the value before them, which is
//! noticed while they are written, part by part, at the price of a comparison each.

use aqueduct_core::FieldValue;

use super::tag;
use super::write::unit_index;

/// The parts of the row written last, in their order: numbers of members, and kinds of values.
#[derive(Debug, Default)]
pub(super) struct Form {
    parts: Vec<u32>,
    /// They are all the parts of a row.
    whole: bool,
    /// So they were of the row before it.
    repeated: bool,
}

/// How much of the row at hand is noted.
#[derive(Debug)]
pub(super) struct Noted {
    parts: usize,
    /// It is the same as in the row before.
    same: bool,
}

/// The most parts that are noted.
const PARTS_MAX: usize = 1_024;
/// What tells a kind from the number of a member.
const KIND: u32 = 1 << 31;
/// Of a kind: it is negative, larger than signed numbers, or in UTC.
const MORE: u32 = 1 << 8;
/// A struct, map or list ends.
pub(super) const END: u32 = KIND | 1 << 9;
/// What [`kind_of`] says of text.
pub(super) const TEXT: u32 = of_tag(tag::LONG_TEXT);

impl Form {
    /// A row begins; one whose form is not noted leaves none to compare with.
    pub(super) fn begin(&mut self, notes: bool) -> Noted {
        let known = std::mem::replace(&mut self.whole, notes);
        self.repeated = false;
        Noted { parts: 0, same: notes && known }
    }

    /// Notes the next part of the row.
    #[inline]
    pub(super) fn note(&mut self, noted: &mut Noted, part: u32) {
        if noted.same && self.parts.get(noted.parts) == Some(&part) {
            noted.parts += 1;
        } else {
            self.differ(noted, part);
        }
    }

    fn differ(&mut self, noted: &mut Noted, part: u32) {
        noted.same = false;
        self.parts.truncate(noted.parts);
        if noted.parts == PARTS_MAX {
            return self.leave_out();
        }
        self.parts.push(part);
        noted.parts += 1;
    }

    /// The row has a part that cannot be noted.
    pub(super) fn leave_out(&mut self) {
        self.whole = false;
    }

    /// The row ends.
    pub(super) fn finish(&mut self, noted: &Noted) {
        self.repeated = noted.same && self.whole && noted.parts == self.parts.len();
        self.parts.truncate(noted.parts);
    }

    /// The row is none after all.
    pub(super) fn forget(&mut self) {
        (self.whole, self.repeated) = (false, false);
    }

    /// Whether the row has the parts of the one before it.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated
    }
}

/// Something that has a tag of its own.
pub(super) const fn of_tag(tag: u8) -> u32 {
    KIND | tag as u32
}

/// What is to be known of a value to know its column; `None` if more than fits into the answer.
#[inline]
pub(super) fn kind_of(value: &FieldValue<'_>) -> Option<u32> {
    let (tag, more) = match value {
        FieldValue::Null => (tag::NULL, false),
        FieldValue::Bool(_) => (tag::TRUE, false),
        FieldValue::I64(number) => (tag::I64, *number < 0),
        FieldValue::U64(number) => (tag::U64, i64::try_from(*number).is_err()),
        FieldValue::F32(_) => (tag::F32, false),
        FieldValue::F64(_) => (tag::F64, false),
        FieldValue::Number(_) => (tag::NUMBER, false),
        FieldValue::Str(_) => return Some(TEXT),
        FieldValue::Bytes(_) => (tag::BYTES, false),
        FieldValue::Uuid(_) => (tag::UUID, false),
        FieldValue::Date(_) => (tag::DATE, false),
        FieldValue::Time { unit, .. } => (tag::TIME + unit_index(*unit), false),
        FieldValue::Timestamp { unit, utc, .. } => (tag::TIMESTAMP + unit_index(*unit), *utc),
        FieldValue::Duration { .. } => (tag::DURATION, false),
        // Decimals have columns by their digits.
        _ => return None,
    };
    Some(of_tag(tag) | if more { MORE } else { 0 })
}
