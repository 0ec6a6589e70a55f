//! Gives a datum that was checked to a visitor, and finds fields in it.

use aqueduct_core::{Composite, FieldValue, Poison, ValueVisitor};

use super::cursor::Cursor;
use super::plan::{Op, OpId, Plan, Scalar, Show, Source, StructPlan, Wire};

/// Gives the value at the cursor to `visitor`, as the step `id` reads it, and moves on behind it.
pub(super) fn walk<V: ValueVisitor + ?Sized>(
    plan: &Plan,
    id: OpId,
    cursor: &mut Cursor<'_>,
    visitor: &mut V,
) -> Result<(), Poison> {
    match plan.op(id) {
        Op::Scalar(scalar) => walk_scalar(*scalar, cursor, visitor),
        Op::Struct(of) => walk_members(plan, of, cursor, visitor),
        Op::Union(branches) => {
            let Some(branch) = index(cursor).and_then(|index| branches.get(index)) else { return Ok(()) };
            if let Some(said) = branch.say {
                visitor.branch(said)?;
            }
            walk(plan, branch.of, cursor, visitor)
        }
        Op::Branch { index, of } => {
            visitor.branch(*index)?;
            walk(plan, *of, cursor, visitor)
        }
        Op::Enum(symbols) => visitor.scalar(symbol(symbols, cursor)),
        Op::List(items) => {
            visitor.begin(Composite::List)?;
            loop {
                let count = cursor.block().unwrap_or(0);
                if count == 0 {
                    return visitor.end();
                }
                for _ in 0..count {
                    walk(plan, *items, cursor, visitor)?;
                }
            }
        }
        Op::Map(values) => {
            visitor.begin(Composite::Map)?;
            loop {
                let count = cursor.block().unwrap_or(0);
                if count == 0 {
                    return visitor.end();
                }
                for _ in 0..count {
                    let key = cursor.bytes().unwrap_or_default();
                    visitor.key(std::str::from_utf8(key).unwrap_or_default())?;
                    walk(plan, *values, cursor, visitor)?;
                }
            }
        }
        Op::Refused(_) => Ok(()),
    }
}

/// The kinds that most values are of are given without being made a value of any kind first.
#[inline]
fn walk_scalar<V: ValueVisitor + ?Sized>(
    scalar: Scalar,
    cursor: &mut Cursor<'_>,
    visitor: &mut V,
) -> Result<(), Poison> {
    match scalar {
        Scalar { wire: Wire::Bytes, show: Show::Text } => visitor.text(cursor.bytes().unwrap_or_default()),
        Scalar { wire: Wire::Int | Wire::Long, show: Show::Whole } => {
            visitor.scalar(FieldValue::I64(cursor.long().unwrap_or_default()))
        }
        // Everything was checked when the record was converted.
        _ => visitor.scalar(scalar.read(cursor).unwrap_or(FieldValue::Null)),
    }
}

fn walk_members<V: ValueVisitor + ?Sized>(
    plan: &Plan,
    of: &StructPlan,
    cursor: &mut Cursor<'_>,
    visitor: &mut V,
) -> Result<(), Poison> {
    visitor.begin(Composite::Struct)?;
    if of.aligned {
        for member in &of.members {
            visitor.member(&member.name)?;
            walk(plan, member.of, cursor, visitor)?;
        }
        return visitor.end();
    }
    let mut fields = WrittenFields::new(plan, of, *cursor);
    for member in &of.members {
        visitor.member(&member.name)?;
        match &member.source {
            Source::Written(index) => {
                let at = fields.at(*index);
                walk(plan, member.of, at, visitor)?;
                fields.next = index + 1;
            }
            Source::Default(bytes) => walk(plan, member.of, &mut Cursor::new(bytes), visitor)?,
        }
    }
    *cursor = *fields.at(of.wire.len());
    visitor.end()
}

/// Fields of a struct in any order. Forward is cheap; backward begins again at the first field.
struct WrittenFields<'p, 'd> {
    plan: &'p Plan,
    of: &'p StructPlan,
    start: Cursor<'d>,
    cursor: Cursor<'d>,
    /// The field at the cursor.
    next: usize,
}

impl<'p, 'd> WrittenFields<'p, 'd> {
    fn new(plan: &'p Plan, of: &'p StructPlan, start: Cursor<'d>) -> Self {
        Self { plan, of, start, cursor: start, next: 0 }
    }

    /// A cursor in front of the field `index`.
    fn at(&mut self, index: usize) -> &mut Cursor<'d> {
        if index < self.next {
            (self.cursor, self.next) = (self.start, 0);
        }
        for id in self.of.wire.get(self.next..index).unwrap_or_default() {
            skip(self.plan, *id, &mut self.cursor);
        }
        self.next = index;
        &mut self.cursor
    }
}

/// Moves on behind the value at the cursor.
fn skip(plan: &Plan, id: OpId, cursor: &mut Cursor<'_>) {
    match plan.op(id) {
        Op::Scalar(scalar) => match scalar.wire {
            Wire::Null => {}
            Wire::Boolean => {
                cursor.byte();
            }
            Wire::Int | Wire::Long => {
                cursor.long();
            }
            Wire::Float => {
                cursor.take(4);
            }
            Wire::Double => {
                cursor.take(8);
            }
            Wire::Bytes => {
                cursor.bytes();
            }
            Wire::Fixed(size) => {
                cursor.take(size as usize);
            }
        },
        Op::Struct(of) => of.wire.iter().for_each(|id| skip(plan, *id, cursor)),
        Op::Union(branches) => {
            if let Some(branch) = index(cursor).and_then(|index| branches.get(index)) {
                skip(plan, branch.of, cursor);
            }
        }
        Op::Branch { of, .. } => skip(plan, *of, cursor),
        Op::Enum(_) => {
            cursor.long();
        }
        Op::List(inner) | Op::Map(inner) => {
            let keys = matches!(plan.op(id), Op::Map(_));
            loop {
                let count = cursor.block().unwrap_or(0);
                if count == 0 {
                    return;
                }
                for _ in 0..count {
                    if keys {
                        cursor.bytes();
                    }
                    skip(plan, *inner, cursor);
                }
            }
        }
        Op::Refused(_) => {}
    }
}

/// What stands at `path`. Of entries of one key the last counts, as for those who read a map.
pub(super) fn field<'a>(plan: &'a Plan, bytes: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
    let (mut id, mut cursor) = (plan.root, Cursor::new(bytes));
    let mut path = path.iter();
    loop {
        id = match plan.op(id) {
            Op::Union(branches) => branches.get(index(&mut cursor)?)?.of,
            Op::Branch { of, .. } => *of,
            Op::Scalar(scalar) => {
                return if path.next().is_none() { scalar.read(&mut cursor) } else { None };
            }
            Op::Enum(symbols) => {
                return if path.next().is_none() { Some(symbol(symbols, &mut cursor)) } else { None };
            }
            Op::Refused(_) => return None,
            Op::List(_) => return if path.next().is_none() { Some(FieldValue::Composite) } else { None },
            Op::Struct(of) => {
                let Some(name) = path.next() else { return Some(FieldValue::Composite) };
                let member = of.members.iter().find(|member| *member.name == **name)?;
                cursor = match &member.source {
                    Source::Written(index) => *WrittenFields::new(plan, of, cursor).at(*index),
                    Source::Default(bytes) => Cursor::new(bytes),
                };
                member.of
            }
            Op::Map(values) => {
                let Some(name) = path.next() else { return Some(FieldValue::Composite) };
                cursor = entry(plan, *values, cursor, name)?;
                *values
            }
        };
    }
}

/// A cursor in front of the value of the last entry called `name`.
fn entry<'d>(plan: &Plan, values: OpId, mut cursor: Cursor<'d>, name: &str) -> Option<Cursor<'d>> {
    let mut found = None;
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return found;
        }
        for _ in 0..count {
            if cursor.bytes()? == name.as_bytes() {
                found = Some(cursor);
            }
            skip(plan, values, &mut cursor);
        }
    }
}

fn symbol<'p>(symbols: &'p [Option<Box<str>>], cursor: &mut Cursor<'_>) -> FieldValue<'p> {
    let symbol = index(cursor).and_then(|index| symbols.get(index)).and_then(Option::as_deref);
    FieldValue::Str(symbol.unwrap_or_default().into())
}

#[inline]
fn index(cursor: &mut Cursor<'_>) -> Option<usize> {
    usize::try_from(cursor.long()?).ok()
}
