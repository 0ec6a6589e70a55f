//! From the tape to what was visited.

use std::borrow::Cow;

use aqueduct_core::{Composite, Decimal, FieldValue, NESTING_MAX, Poison, TimeUnit, ValueVisitor};

use super::{Names, tag};

/// The bytes are no tape. They are verified against their checksum before they are read, so it is a defect, not bit rot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row in the spool is damaged; this is a defect, report it")]
pub(crate) struct Damaged;

/// Reads values one after the other. Nothing is allocated, copied or believed: what does not fit is [`Damaged`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tape<'a> {
    bytes: &'a [u8],
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    /// A number as text.
    Number(&'a [u8]),
    Decimal {
        scale: u32,
        unscaled: &'a [u8],
    },
    /// UTF-8, as it was written.
    Str(&'a [u8]),
    Bytes(&'a [u8]),
    Uuid(&'a [u8; 16]),
    Date(i32),
    Time {
        count: i64,
        unit: TimeUnit,
    },
    Timestamp {
        count: i64,
        unit: TimeUnit,
        utc: bool,
    },
    Duration {
        months: u32,
        days: u32,
        millis: u32,
    },
    /// Its parts: members, entries or elements.
    Parts(Composite, Tape<'a>),
}

/// What a member is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Number(u32),
    Spelled(&'a [u8]),
}

impl<'a> Tape<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are left.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The last so many bytes of it.
    #[inline]
    pub(crate) fn last(&self, length: usize) -> Self {
        let start = self.bytes.len().saturating_sub(length);
        Self { bytes: self.bytes.get(start..).unwrap_or_default() }
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.bytes.split_first().ok_or(Damaged)?;
        self.bytes = rest;
        Ok(*first)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Damaged> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn unsigned(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Damaged);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    fn part(&mut self) -> Result<u32, Damaged> {
        u32::try_from(self.unsigned()?).map_err(|_| Damaged)
    }

    #[inline]
    fn signed(&mut self) -> Result<i64, Damaged> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    #[inline]
    fn block(&mut self) -> Result<&'a [u8], Damaged> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| Damaged)?;
        self.take(length)
    }

    /// The branch that the next value says it is of.
    #[inline]
    pub(crate) fn branch(&mut self) -> Result<Option<u32>, Damaged> {
        if self.bytes.first() != Some(&tag::BRANCH) {
            return Ok(None);
        }
        self.byte()?;
        self.part().map(Some)
    }

    /// The next value, if it is text that says no branch; else nothing is read. As [`item`](Self::item) would, sooner: text is
    /// most of what there is.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Option<&'a [u8]>, Damaged> {
        match self.bytes.split_first() {
            Some((&tag @ tag::TEXT..tag::MEMBER, rest)) => {
                self.bytes = rest;
                self.take(usize::from(tag - tag::TEXT)).map(Some)
            }
            Some((&tag::LONG_TEXT, rest)) => {
                self.bytes = rest;
                self.block().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The next value; of one that says its branch, [`branch`](Self::branch) is read before.
    #[inline]
    pub(crate) fn item(&mut self) -> Result<Item<'a>, Damaged> {
        let tag = self.byte()?;
        Ok(match tag {
            0..tag::TEXT => Item::I64(i64::from(tag)),
            tag::TEXT..tag::MEMBER => Item::Str(self.take(usize::from(tag - tag::TEXT))?),
            tag::LONG_TEXT => Item::Str(self.block()?),
            tag::NULL => Item::Null,
            tag::FALSE => Item::Bool(false),
            tag::TRUE => Item::Bool(true),
            tag::I64 => Item::I64(self.signed()?),
            tag::F64 => Item::F64(f64::from_le_bytes(*self.array()?)),
            tag::NUMBER => Item::Number(self.block()?),
            tag::STRUCT => Item::Parts(Composite::Struct, self.parts()?),
            tag::LIST => Item::Parts(Composite::List, self.parts()?),
            tag::MAP => Item::Parts(Composite::Map, self.parts()?),
            _ => self.rarer(tag)?,
        })
    }

    fn rarer(&mut self, tag: u8) -> Result<Item<'a>, Damaged> {
        Ok(match tag {
            tag::U64 => Item::U64(self.unsigned()?),
            tag::F32 => Item::F32(f32::from_le_bytes(*self.array()?)),
            tag::DECIMAL => Item::Decimal { scale: self.part()?, unscaled: self.block()? },
            tag::BYTES => Item::Bytes(self.block()?),
            tag::UUID => Item::Uuid(self.array()?),
            tag::DATE => Item::Date(i32::try_from(self.signed()?).map_err(|_| Damaged)?),
            tag::TIME..tag::TIMESTAMP => Item::Time { unit: unit(tag - tag::TIME), count: self.signed()? },
            tag::TIMESTAMP..tag::DURATION => {
                let index = tag - tag::TIMESTAMP;
                Item::Timestamp { unit: unit(index % 3), utc: index < 3, count: self.signed()? }
            }
            tag::DURATION => {
                Item::Duration { months: self.part()?, days: self.part()?, millis: self.part()? }
            }
            _ => return Err(Damaged),
        })
    }

    fn parts(&mut self) -> Result<Tape<'a>, Damaged> {
        let length = u32::from_le_bytes(*self.array()?);
        self.take(usize::try_from(length).map_err(|_| Damaged)?).map(Tape::new)
    }

    /// The name of the next member, or the key of the next entry, which is always spelled out.
    #[inline]
    pub(crate) fn name(&mut self) -> Result<Name<'a>, Damaged> {
        Ok(match self.byte()? {
            tag @ tag::MEMBER..tag::NULL => Name::Number(u32::from(tag - tag::MEMBER)),
            tag::LONG_MEMBER => Name::Number(self.part()?),
            tag::SPELLED => Name::Spelled(self.block()?),
            _ => return Err(Damaged),
        })
    }

    /// Passes over the next value, whatever its branch.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<(), Damaged> {
        self.branch()?;
        self.item().map(drop)
    }

    /// How many elements there are.
    pub(crate) fn count_elements(mut self) -> Result<usize, Damaged> {
        let mut count = 0;
        while !self.is_empty() {
            self.skip()?;
            count += 1;
        }
        Ok(count)
    }

    /// How many members or entries there are.
    pub(crate) fn count_members(mut self) -> Result<usize, Damaged> {
        let mut count = 0;
        while !self.is_empty() {
            self.name()?;
            self.skip()?;
            count += 1;
        }
        Ok(count)
    }
}

impl<'a> Name<'a> {
    pub(crate) fn spelled<'n>(self, names: &'n Names) -> Result<&'n str, Damaged>
    where
        'a: 'n,
    {
        match self {
            Self::Number(number) => names.get(number).ok_or(Damaged),
            Self::Spelled(name) => std::str::from_utf8(name).map_err(|_| Damaged),
        }
    }
}

/// Gives the next value to `visitor`.
///
/// # Errors
/// The visitor's, inside of the outer `Ok`.
pub(crate) fn replay(
    tape: &mut Tape<'_>,
    names: &Names,
    visitor: &mut dyn ValueVisitor,
) -> Result<Result<(), Poison>, Damaged> {
    match give(tape, names, visitor, 0) {
        Ok(()) => Ok(Ok(())),
        Err(Stopped::Poison(poison)) => Ok(Err(poison)),
        Err(Stopped::Damaged) => Err(Damaged),
    }
}

enum Stopped {
    Damaged,
    Poison(Poison),
}

impl From<Damaged> for Stopped {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl From<Poison> for Stopped {
    fn from(poison: Poison) -> Self {
        Self::Poison(poison)
    }
}

fn give(
    tape: &mut Tape<'_>,
    names: &Names,
    visitor: &mut dyn ValueVisitor,
    depth: usize,
) -> Result<(), Stopped> {
    if let Some(branch) = tape.branch()? {
        visitor.branch(usize::try_from(branch).map_err(|_| Damaged)?)?;
    }
    let item = tape.item()?;
    let Item::Parts(composite, mut parts) = item else {
        return Ok(visitor.scalar(item.field_value()?)?);
    };
    if depth >= NESTING_MAX {
        return Err(Stopped::Damaged);
    }
    visitor.begin(composite)?;
    while !parts.is_empty() {
        if composite != Composite::List {
            visitor.key(parts.name()?.spelled(names)?)?;
        }
        give(&mut parts, names, visitor, depth + 1)?;
    }
    Ok(visitor.end()?)
}

impl<'a> Item<'a> {
    /// The same for visitors; of something with parts there is none.
    pub(crate) fn field_value(&self) -> Result<FieldValue<'a>, Damaged> {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| Damaged);
        Ok(match *self {
            Self::Null => FieldValue::Null,
            Self::Bool(it) => FieldValue::Bool(it),
            Self::I64(it) => FieldValue::I64(it),
            Self::U64(it) => FieldValue::U64(it),
            Self::F32(it) => FieldValue::F32(it),
            Self::F64(it) => FieldValue::F64(it),
            Self::Number(it) => FieldValue::Number(text(it)?),
            Self::Decimal { scale, unscaled } => FieldValue::Decimal(Decimal::new(unscaled, scale)),
            Self::Str(it) => FieldValue::Str(Cow::Borrowed(text(it)?)),
            Self::Bytes(it) => FieldValue::Bytes(Cow::Borrowed(it)),
            Self::Uuid(it) => FieldValue::Uuid(*it),
            Self::Date(it) => FieldValue::Date(it),
            Self::Time { count, unit } => FieldValue::Time { count, unit },
            Self::Timestamp { count, unit, utc } => FieldValue::Timestamp { count, unit, utc },
            Self::Duration { months, days, millis } => FieldValue::Duration { months, days, millis },
            Self::Parts(..) => return Err(Damaged),
        })
    }
}

fn unit(index: u8) -> TimeUnit {
    match index {
        0 => TimeUnit::Millis,
        1 => TimeUnit::Micros,
        _ => TimeUnit::Nanos,
    }
}
