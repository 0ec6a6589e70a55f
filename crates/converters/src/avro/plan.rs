//! How a datum is read: a schema, or a writer's and a reader's, made into steps.

use std::sync::Arc;

use aqueduct_core::{Decimal, FieldValue, MemberName, Schema, TimeUnit};

use super::cursor::Cursor;
use super::uuid;

/// The steps of one schema, or of one writer's schema and the reader's. Made once per schema.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) root: OpId,
    /// What values are told to be of.
    pub(super) schema: Arc<Schema>,
}

impl Plan {
    #[inline]
    pub(super) fn op(&self, id: OpId) -> &Op {
        // Every id was made when its step was put into the list.
        self.ops.get(id.0 as usize).unwrap_or(&Op::Scalar(Scalar { wire: Wire::Null, show: Show::Null }))
    }
}

/// Where a step stands in its [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OpId(pub(super) u32);

/// How one value is read.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Scalar(Scalar),
    /// By the writer's index, the symbol to show; none where the reader has no such symbol and no default.
    Enum(Box<[Option<Box<str>>]>),
    List(OpId),
    Map(OpId),
    Struct(Box<StructPlan>),
    /// By the writer's branch.
    Union(Box<[Branch]>),
    /// A value of a writer without a union for a reader with several branches: this one.
    Branch {
        index: usize,
        of: OpId,
    },
    /// A value that the reader's schema has no place for; why, in words.
    Refused(Box<str>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    /// What to say of it, where there are several beside null.
    pub(super) say: Option<usize>,
    pub(super) of: OpId,
}

/// A record, in the order it was written and in the order it is shown.
#[derive(Clone, Debug)]
pub(super) struct StructPlan {
    pub(super) name: Box<str>,
    /// As written.
    pub(super) wire: Box<[OpId]>,
    /// As shown.
    pub(super) members: Box<[Member]>,
    /// Whether these are the same.
    pub(super) aligned: bool,
    /// What the names take, for the account of what a record unfolds to.
    pub(super) weight: u64,
    /// Levels that the deepest default has.
    pub(super) default_levels: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: MemberName,
    pub(super) of: OpId,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The writer's field of that index.
    Written(usize),
    /// The reader's default, encoded.
    Default(Box<[u8]>),
}

/// How a value without parts is written, and what it is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) wire: Wire,
    pub(super) show: Show,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    /// Of strings, too.
    Bytes,
    Fixed(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Null,
    Bool,
    Whole,
    F32,
    F64,
    Text,
    Bytes,
    Decimal { scale: u32 },
    Uuid,
    Date,
    Time(TimeUnit),
    Timestamp { unit: TimeUnit, utc: bool },
    Duration,
}

impl Scalar {
    /// The value at the cursor; `None` only of bytes that were not checked.
    #[inline]
    pub(super) fn read<'d>(self, cursor: &mut Cursor<'d>) -> Option<FieldValue<'d>> {
        Some(match self.wire {
            Wire::Null => FieldValue::Null,
            Wire::Boolean => FieldValue::Bool(cursor.byte()? != 0),
            Wire::Int | Wire::Long => self.number(cursor.long()?),
            Wire::Float => {
                let float = f32::from_le_bytes(cursor.array()?);
                if self.show == Show::F64 { FieldValue::F64(float.into()) } else { FieldValue::F32(float) }
            }
            Wire::Double => FieldValue::F64(f64::from_le_bytes(cursor.array()?)),
            Wire::Bytes => self.bytes(cursor.bytes()?)?,
            Wire::Fixed(size) => self.bytes(cursor.take(size as usize)?)?,
        })
    }

    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "what the specification says of whole numbers read as floats; an int was checked to be one"
    )]
    fn number(self, count: i64) -> FieldValue<'static> {
        match self.show {
            Show::F32 => FieldValue::F32(count as f32),
            Show::F64 => FieldValue::F64(count as f64),
            Show::Date => FieldValue::Date(count as i32),
            Show::Time(unit) => FieldValue::Time { count, unit },
            Show::Timestamp { unit, utc } => FieldValue::Timestamp { count, unit, utc },
            _ => FieldValue::I64(count),
        }
    }

    #[inline]
    fn bytes(self, bytes: &[u8]) -> Option<FieldValue<'_>> {
        Some(match self.show {
            Show::Text => FieldValue::Str(std::str::from_utf8(bytes).ok()?.into()),
            Show::Decimal { scale } => FieldValue::Decimal(Decimal::new(bytes, scale)),
            Show::Uuid => FieldValue::Uuid(match self.wire {
                Wire::Fixed(_) => bytes.try_into().ok()?,
                _ => uuid::parse(bytes)?,
            }),
            Show::Duration => {
                let mut parts = Cursor::new(bytes);
                let mut part = || parts.array().map(u32::from_le_bytes);
                FieldValue::Duration { months: part()?, days: part()?, millis: part()? }
            }
            _ => FieldValue::Bytes(bytes.into()),
        })
    }
}
