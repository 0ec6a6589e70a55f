//! Goes through bytes that have been checked.

use aqueduct_core::{Composite, FieldValue, Poison, ValueVisitor};

use super::{Events, Token, Tokens, drive, key_text};

/// Gives the whole value to `visitor`; maps are structs, as the objects of JSON are.
pub(crate) fn visit<'a, T: Tokens<'a>>(
    bytes: &'a [u8],
    visitor: &mut dyn ValueVisitor,
) -> Result<(), Poison> {
    drive(&mut T::new(bytes), &mut Given(visitor))
}

struct Given<'v>(&'v mut dyn ValueVisitor);

impl Events for Given<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.0.scalar(value)
    }

    fn begin(&mut self, map: bool) -> Result<(), Poison> {
        self.0.begin(if map { Composite::Struct } else { Composite::List })
    }

    fn key(&mut self, name: &str, _: usize) -> Result<(), Poison> {
        self.0.key(name)
    }

    fn end(&mut self, _: bool) -> Result<(), Poison> {
        self.0.end()
    }
}

/// What stands at `path`. A path of names does not lead into lists.
pub(crate) fn field<'a, T: Tokens<'a>>(bytes: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
    let mut tokens = T::new(bytes);
    for name in path {
        let Token::Map(length) = tokens.token().ok()? else { return None };
        let mut entries = length.unwrap_or(u64::MAX);
        loop {
            entries = entries.checked_sub(1)?;
            // A break is no key.
            let key = tokens.token().ok()?;
            if *key_text(&key)? == **name {
                break;
            }
            drive(&mut tokens, &mut Passed).ok()?;
        }
    }
    match tokens.token().ok()? {
        Token::Scalar(value) => Some(value),
        Token::List(_) | Token::Map(_) => Some(FieldValue::Composite),
        Token::Break => None,
    }
}

/// Looks at nothing.
struct Passed;

impl Events for Passed {
    fn scalar(&mut self, _: FieldValue<'_>) -> Result<(), Poison> {
        Ok(())
    }

    fn begin(&mut self, _: bool) -> Result<(), Poison> {
        Ok(())
    }

    fn key(&mut self, _: &str, _: usize) -> Result<(), Poison> {
        Ok(())
    }

    fn end(&mut self, _: bool) -> Result<(), Poison> {
        Ok(())
    }
}
