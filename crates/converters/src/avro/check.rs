//! Goes through a datum once and finds everything wrong with it, so that nothing later can fail.

use std::fmt;

use aqueduct_core::{Decimal, NESTING_MAX, Poison, PoisonReason};

use super::cursor::Cursor;
use super::plan::{Op, OpId, Plan, Scalar, Show, StructPlan, Wire};
use super::uuid;

/// Bytes that a decimal may have. A number as text takes time by the square of its length.
pub(super) const DECIMAL_BYTES_MAX: usize = Decimal::BYTES_MAX;
/// How much more than its bytes a record may unfold to, for each of them.
const UNFOLD_PER_BYTE: u64 = 256;

/// Checks the datum `bytes`.
pub(super) fn check(plan: &Plan, bytes: &[u8], unfold_max: u64) -> Result<(), Poison> {
    let mut checker = Checker::new(plan, bytes, unfold_max);
    let outcome = checker.value(plan.root, 0).and_then(|()| match checker.cursor.left() {
        0 => Ok(()),
        left => Err(Fault::new(Problem::Trailing(left))),
    });
    outcome.map_err(|fault| fault.poison(bytes.len().saturating_sub(checker.cursor.left())))
}

/// Checks a default that was encoded for the step `of`.
pub(super) fn check_default(plan: &Plan, of: OpId, bytes: &[u8]) -> Result<(), Poison> {
    let mut checker = Checker::new(plan, bytes, u64::MAX);
    checker.value(of, 0).map_err(|fault| fault.poison(0))
}

struct Checker<'p, 'd> {
    plan: &'p Plan,
    cursor: Cursor<'d>,
    /// Items, and bytes of names and symbols: what a short datum can make a long row of.
    unfolded: u64,
    unfold_max: u64,
}

type Checked<'p> = Result<(), Box<Fault<'p>>>;

impl<'p, 'd> Checker<'p, 'd> {
    fn new(plan: &'p Plan, bytes: &'d [u8], unfold_max: u64) -> Self {
        let unfold_max = unfold_max.saturating_add((bytes.len() as u64).saturating_mul(UNFOLD_PER_BYTE));
        Self { plan, cursor: Cursor::new(bytes), unfolded: 0, unfold_max }
    }

    fn value(&mut self, id: OpId, depth: usize) -> Checked<'p> {
        match self.plan.op(id) {
            Op::Scalar(scalar) => self.scalar(*scalar).map_err(Fault::new),
            Op::Struct(of) => self.members(of, depth),
            Op::Union(branches) => {
                let branch = self.long().map_err(Fault::new)?;
                let branch = usize::try_from(branch).ok().and_then(|index| branches.get(index));
                match branch {
                    Some(branch) => self.value(branch.of, depth),
                    None => Err(Fault::new(Problem::Branch { of: branches.len() })),
                }
            }
            Op::Branch { of, .. } => self.value(*of, depth),
            Op::Enum(symbols) => {
                let index = self.long().map_err(Fault::new)?;
                match usize::try_from(index).ok().and_then(|index| symbols.get(index)) {
                    Some(Some(symbol)) => self.unfold(symbol.len() as u64).map_err(Fault::new),
                    Some(None) => Err(Fault::new(Problem::UnknownSymbol)),
                    None => Err(Fault::new(Problem::Symbol { of: symbols.len() })),
                }
            }
            Op::List(items) => self.blocks(*items, false, depth),
            Op::Map(values) => self.blocks(*values, true, depth),
            Op::Refused(why) => Err(Fault::new(Problem::Refused(why))),
        }
    }

    fn members(&mut self, of: &'p StructPlan, depth: usize) -> Checked<'p> {
        if depth.saturating_add(of.default_levels) >= NESTING_MAX {
            return Err(Fault::new(Problem::Nesting));
        }
        self.unfold(of.weight).map_err(Fault::new)?;
        for (index, id) in of.wire.iter().enumerate() {
            if let Err(mut fault) = self.value(*id, depth + 1) {
                // The innermost name says most.
                fault.field.get_or_insert((of, index));
                return Err(fault);
            }
        }
        Ok(())
    }

    fn blocks(&mut self, items: OpId, keys: bool, depth: usize) -> Checked<'p> {
        if depth >= NESTING_MAX {
            return Err(Fault::new(Problem::Nesting));
        }
        loop {
            let count = self.block().map_err(Fault::new)?;
            if count == 0 {
                return Ok(());
            }
            // Before any of them is looked at: there may be 2^62, of no bytes each.
            self.unfold(count).map_err(Fault::new)?;
            for _ in 0..count {
                if keys {
                    self.scalar(KEY).map_err(Fault::new)?;
                }
                self.value(items, depth + 1)?;
            }
        }
    }

    /// As [`Cursor::block`].
    #[inline]
    fn block(&mut self) -> Result<u64, Problem<'p>> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
            if count == i64::MIN {
                return Err(Problem::Block);
            }
        }
        Ok(count.unsigned_abs())
    }

    #[inline]
    fn unfold(&mut self, weight: u64) -> Result<(), Problem<'p>> {
        self.unfolded = self.unfolded.saturating_add(weight);
        if self.unfolded > self.unfold_max {
            Err(Problem::Unfolds { limit: self.unfold_max })
        } else {
            Ok(())
        }
    }

    #[inline]
    fn scalar(&mut self, scalar: Scalar) -> Result<(), Problem<'p>> {
        match scalar.wire {
            Wire::Null => Ok(()),
            Wire::Boolean => match self.cursor.byte() {
                Some(0 | 1) => Ok(()),
                Some(_) => Err(Problem::Boolean),
                None => Err(Problem::End),
            },
            Wire::Int => i32::try_from(self.long()?).map(|_| ()).map_err(|_| Problem::Int),
            Wire::Long => self.long().map(|_| ()),
            Wire::Float => self.take(4).map(|_| ()),
            Wire::Double => self.take(8).map(|_| ()),
            Wire::Bytes => {
                let length = usize::try_from(self.long()?).map_err(|_| Problem::Length)?;
                let bytes = self.take(length)?;
                match scalar.show {
                    // Most text is ASCII, which is sooner seen.
                    Show::Text if !bytes.is_ascii() && std::str::from_utf8(bytes).is_err() => {
                        Err(Problem::Utf8)
                    }
                    Show::Uuid if uuid::parse(bytes).is_none() => Err(Problem::Uuid),
                    Show::Decimal { .. } if bytes.len() > DECIMAL_BYTES_MAX => Err(Problem::Decimal),
                    _ => Ok(()),
                }
            }
            Wire::Fixed(size) => self.take(size as usize).map(|_| ()),
        }
    }

    #[inline]
    fn long(&mut self) -> Result<i64, Problem<'p>> {
        match self.cursor.long() {
            Some(number) => Ok(number),
            None => Err(self.no_number()),
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'d [u8], Problem<'p>> {
        self.cursor.take(length).ok_or(Problem::End)
    }

    /// A number that cannot be read either ends too early or not at all.
    #[cold]
    fn no_number(&self) -> Problem<'p> {
        if self.cursor.left() < 10 { Problem::End } else { Problem::Number }
    }
}

/// A map's key.
const KEY: Scalar = Scalar { wire: Wire::Bytes, show: Show::Text };

/// What is wrong, and in which field of which record.
struct Fault<'p> {
    problem: Problem<'p>,
    field: Option<(&'p StructPlan, usize)>,
}

impl<'p> Fault<'p> {
    #[cold]
    #[expect(clippy::unnecessary_box_returns, reason = "the size of a result that is returned per value")]
    fn new(problem: Problem<'p>) -> Box<Self> {
        Box::new(Self { problem, field: None })
    }

    #[cold]
    fn poison(&self, at: usize) -> Poison {
        let field = self.field.map_or_else(String::new, |(of, index)| match of.written_name(index) {
            Some(name) => format!(", field {name:?} of {}", of.name),
            None => format!(", field {index} of {}", of.name),
        });
        let reason = match self.problem {
            Problem::Unfolds { .. } | Problem::Nesting | Problem::Decimal => PoisonReason::TooLarge,
            Problem::UnknownSymbol | Problem::Refused(_) | Problem::Uuid => PoisonReason::InvalidField,
            _ => PoisonReason::Malformed,
        };
        Poison::new(reason, format!("not readable avro at byte {at}{field}: {}", self.problem))
    }
}

impl StructPlan {
    /// What the field that was written at `index` is called where it is shown.
    fn written_name(&self, index: usize) -> Option<&str> {
        let is_it = |member: &&super::plan::Member| matches!(member.source, super::plan::Source::Written(written) if written == index);
        self.members.iter().find(is_it).map(|member| &*member.name)
    }
}

enum Problem<'p> {
    End,
    Trailing(usize),
    Number,
    Int,
    Length,
    Block,
    Boolean,
    Utf8,
    Uuid,
    Decimal,
    Symbol { of: usize },
    UnknownSymbol,
    Branch { of: usize },
    Nesting,
    Unfolds { limit: u64 },
    Refused(&'p str),
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the bytes end inside of a value"),
            Self::Trailing(left) => {
                write!(f, "{left} bytes are left behind the value; was another schema used?")
            }
            Self::Number => f.write_str("a number of more than 64 bits"),
            Self::Int => f.write_str("an int of more than 32 bits"),
            Self::Length => f.write_str("a length below zero"),
            Self::Block => f.write_str("a block of 2^63 items, which no count is"),
            Self::Boolean => f.write_str("a boolean that is neither 0 nor 1"),
            Self::Utf8 => f.write_str("text that is not utf-8"),
            Self::Uuid => f.write_str("a uuid that is none"),
            Self::Decimal => write!(f, "a decimal of more than {DECIMAL_BYTES_MAX} bytes"),
            Self::Symbol { of } => write!(f, "a symbol that the enum's {of} are not"),
            Self::UnknownSymbol => {
                f.write_str("a symbol that the reader's enum does not have, nor a default")
            }
            Self::Branch { of } => write!(f, "a branch that the union's {of} are not"),
            Self::Nesting => write!(f, "nested deeper than {NESTING_MAX} levels"),
            Self::Unfolds { limit } => write!(f, "it unfolds to more than {limit} items and bytes of names"),
            Self::Refused(why) => write!(f, "the reader's schema has no place for it: {why}"),
        }
    }
}
