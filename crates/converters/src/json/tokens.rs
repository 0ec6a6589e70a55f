//! Where a document's names and values stand: a by-product of validating it.
//!
//! Whoever goes through a document again, for a field or for all of it, would look for the end of every string and number once
//! more, at the price of validating. The validator passes all of them anyway; noting where costs little.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use aqueduct_core::{Composite, FieldValue, Poison, ValueVisitor};

use super::lookup::{is_called, number, unescape, whole_number};

/// The names and values of a document, in its order.
///
/// Bounded: of a document with more of them, or a longer one, none are [known](Self::are_known), and its text has to be scanned.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    list: Vec<Token>,
    /// Where the object or array that is open stands in the list.
    open: u32,
    unknown: bool,
}

/// One name or value: what it is, and where its text starts and ends, without quotes. For the beginning of an object or array,
/// the end is where its [`END`](tag::END) stands in the list; while it is open, where the one stands in which it lies.
#[derive(Clone, Copy)]
struct Token {
    /// The tag is in the low bits.
    start: u32,
    end: u32,
}

/// What a token is.
pub(super) mod tag {
    pub(in super::super) const NAME: u32 = 0;
    /// A name with escapes.
    pub(in super::super) const ESCAPED_NAME: u32 = 1;
    pub(in super::super) const TEXT: u32 = 2;
    /// Text with escapes.
    pub(in super::super) const ESCAPED_TEXT: u32 = 3;
    /// A number without a fraction and an exponent.
    pub(in super::super) const WHOLE: u32 = 4;
    /// Any other number.
    pub(in super::super) const NUMBER: u32 = 5;
    pub(in super::super) const TRUE: u32 = 6;
    pub(in super::super) const FALSE: u32 = 7;
    pub(in super::super) const NULL: u32 = 8;
    pub(in super::super) const OBJECT: u32 = 9;
    pub(in super::super) const ARRAY: u32 = 10;
    /// The end of an object or array.
    pub(super) const END: u32 = 11;
    pub(super) const BITS: u32 = 4;
}

/// The most tokens that are noted. Each thread may keep memory for so many: 32 KiB.
const TOKENS_MAX: usize = 4_096;
/// The longest text whose positions fit.
const TEXT_MAX: usize = (u32::MAX >> tag::BITS) as usize;
/// In place of a position: there is none.
const NONE: u32 = u32::MAX;

thread_local! {
    /// Memory of the list that was dropped last. Records come and go one by one, so that it nearly always serves the next.
    static SPARE: Cell<Vec<Token>> = const { Cell::new(Vec::new()) };
}

impl Tokens {
    /// None yet, of a text of `length` bytes.
    pub(super) fn new(length: usize) -> Self {
        let list = SPARE.try_with(Cell::take).unwrap_or_default();
        Self { list, open: NONE, unknown: length > TEXT_MAX }
    }

    /// Whether all are there.
    pub(super) fn are_known(&self) -> bool {
        !self.unknown && !self.list.is_empty()
    }

    /// Notes a name or a scalar.
    #[inline]
    pub(super) fn push(&mut self, tag: u32, start: usize, end: usize) {
        self.note(tag, start, number_of(end));
    }

    /// Notes that an object or array begins.
    #[inline]
    pub(super) fn open(&mut self, tag: u32, start: usize) {
        let place = number_of(self.list.len());
        self.note(tag, start, self.open);
        self.open = place;
    }

    /// Notes that what began last ends.
    #[inline]
    pub(super) fn close(&mut self) {
        let place = number_of(self.list.len());
        if let Some(begun) = self.list.get_mut(self.open as usize) {
            self.open = std::mem::replace(&mut begun.end, place);
        }
        self.note(tag::END, 0, 0);
    }

    #[inline]
    fn note(&mut self, tag: u32, start: usize, end: u32) {
        if self.list.len() < TOKENS_MAX {
            self.list.push(Token { start: number_of(start) << tag::BITS | tag, end });
        } else {
            self.unknown = true;
        }
    }

    /// Gives what is in `text`, the document these are the tokens of, to `visitor`.
    pub(super) fn visit<V: ValueVisitor + ?Sized>(&self, text: &[u8], visitor: &mut V) -> Result<(), Poison> {
        // Once for all names and strings. The validator has seen to it that it is.
        let text = std::str::from_utf8(text).unwrap_or_default();
        for token in &self.list {
            let spelled = || text.get(token.range()).unwrap_or_default();
            match token.tag() {
                tag::NAME => visitor.key(spelled())?,
                tag::ESCAPED_NAME => visitor.key(&unescape(spelled().as_bytes()).unwrap_or_default())?,
                tag::OBJECT => visitor.begin(Composite::Struct)?,
                tag::ARRAY => visitor.begin(Composite::List)?,
                tag::END => visitor.end()?,
                tag => visitor.scalar(match tag {
                    tag::TEXT => FieldValue::Str(Cow::Borrowed(spelled())),
                    tag::WHOLE => whole_number(spelled()).unwrap_or(FieldValue::Number(spelled())),
                    tag::NUMBER => FieldValue::Number(spelled()),
                    tag::ESCAPED_TEXT => {
                        FieldValue::Str(Cow::Owned(unescape(spelled().as_bytes()).unwrap_or_default()))
                    }
                    tag::TRUE => FieldValue::Bool(true),
                    tag::FALSE => FieldValue::Bool(false),
                    _ => FieldValue::Null,
                })?,
            }
        }
        Ok(())
    }

    /// What stands at `path` in `text`, the document these are the tokens of. The last of several members of one name counts.
    pub(super) fn field<'a>(&self, text: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
        let value = path.iter().try_fold(0, |place, name| self.member(text, place, name))?;
        let token = self.list.get(value)?;
        let spelled = || text.get(token.range());
        Some(match token.tag() {
            tag::TEXT => FieldValue::Str(Cow::Borrowed(std::str::from_utf8(spelled()?).ok()?)),
            tag::ESCAPED_TEXT => FieldValue::Str(Cow::Owned(unescape(spelled()?)?)),
            tag::WHOLE | tag::NUMBER => number(std::str::from_utf8(spelled()?).ok()?)?,
            tag::TRUE => FieldValue::Bool(true),
            tag::FALSE => FieldValue::Bool(false),
            tag::NULL => FieldValue::Null,
            _ => FieldValue::Composite,
        })
    }

    /// The place of the value that the object at `place` has under `name`.
    fn member(&self, text: &[u8], place: usize, name: &str) -> Option<usize> {
        let object = self.list.get(place).filter(|token| token.tag() == tag::OBJECT)?;
        let mut found = None;
        let mut place = place + 1;
        while place < object.end as usize {
            let (key, value) = (self.list.get(place)?, self.list.get(place + 1)?);
            let is_it = match key.tag() {
                tag::NAME => {
                    key.range().len() == name.len() && text.get(key.range()) == Some(name.as_bytes())
                }
                _ => is_called(text.get(key.range()).unwrap_or_default(), name),
            };
            if is_it {
                found = Some(place + 1);
            }
            place = match value.tag() {
                tag::OBJECT | tag::ARRAY => value.end as usize + 1,
                _ => place + 2,
            };
        }
        found
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.list);
        if list.capacity() > 0 {
            list.clear();
            // A thread that ends keeps nothing.
            SPARE.try_with(|spare| spare.set(list)).ok();
        }
    }
}

impl Token {
    #[inline]
    fn tag(self) -> u32 {
        self.start & ((1 << tag::BITS) - 1)
    }

    #[inline]
    fn range(self) -> Range<usize> {
        (self.start >> tag::BITS) as usize..self.end as usize
    }
}

/// A position or a place in the list; those that do not fit are of texts whose tokens are not known.
#[inline]
fn number_of(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}
