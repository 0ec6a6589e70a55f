//! Finds one field of a message that is known to be sound, without going through the rest.

use std::borrow::Cow;

use aqueduct_core::FieldValue;

use super::plan::{Member, Message, Plan, Presence, Scalar, Special};
use super::scalar;
use super::walk::{joined, last, places_of};
use crate::owned::into_static;

/// What stands at `path`, as the walk would give it. A path of names leads into messages and maps, not into lists.
pub(super) fn field<'a>(plan: &'a Plan, bytes: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
    Lookup { plan }.message(0, bytes, path)
}

#[derive(Clone, Copy)]
struct Lookup<'a> {
    plan: &'a Plan,
}

impl<'a> Lookup<'a> {
    fn message(self, index: usize, bytes: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
        let message = self.plan.messages.get(index)?;
        let scalar = |value: Option<FieldValue<'a>>| if path.is_empty() { value } else { None };
        match message.special {
            Special::None => {}
            Special::Timestamp => {
                let (seconds, nanos) = scalar::seconds_and_nanos(bytes).ok()?;
                return scalar(scalar::timestamp(seconds, nanos).ok());
            }
            Special::Duration => {
                let (seconds, nanos) = scalar::seconds_and_nanos(bytes).ok()?;
                return scalar(scalar::duration(seconds, nanos).ok());
            }
            Special::Wrapper => {
                let member = message.members.first()?;
                let value = scalar::of_field(message, 0, member, bytes).ok()?;
                return scalar(Some(value.unwrap_or_else(|| scalar::default(&member.kind))));
            }
            Special::Value => return self.json_value(message, bytes, path),
            Special::List | Special::Any => return scalar(Some(FieldValue::Composite)),
            Special::Struct => {
                let Some((key, rest)) = path.split_first() else { return Some(FieldValue::Composite) };
                return self.entry(message, 0, message.members.first()?, bytes, key, rest);
            }
        }
        let Some((name, rest)) = path.split_first() else { return Some(FieldValue::Composite) };
        let index = message.members.iter().position(|member| *member.name == **name)?;
        let member = message.members.get(index)?;
        match (member.presence, rest.split_first()) {
            (Presence::Repeated | Presence::Map, None) => Some(FieldValue::Composite),
            (Presence::Repeated, Some(_)) => None,
            (Presence::Map, Some((key, rest))) => self.entry(message, index, member, bytes, key, rest),
            _ => self.singular(message, index, member, bytes, rest),
        }
    }

    fn singular(
        self,
        message: &Message,
        index: usize,
        member: &'a Member,
        bytes: &'a [u8],
        rest: &[String],
    ) -> Option<FieldValue<'a>> {
        let places = places_of(message, index, bytes).ok()?;
        if places.is_empty() {
            let is_there = member.presence == Presence::Implicit && rest.is_empty();
            return is_there.then(|| scalar::default(&member.kind));
        }
        match member.kind {
            Scalar::Message(index) | Scalar::Group(index) => match joined(&places, bytes) {
                Cow::Borrowed(content) => self.message(index, content, rest),
                // What was put together ends here.
                Cow::Owned(content) => Lookup { plan: self.plan }.in_copy(index, &content, rest),
            },
            _ if rest.is_empty() => {
                let (wire, content) = last(&places, bytes)?;
                scalar::one(member, wire, content).ok()
            }
            _ => None,
        }
    }

    fn in_copy(self, index: usize, bytes: &[u8], rest: &[String]) -> Option<FieldValue<'a>> {
        let shorter: Lookup<'_> = self;
        match shorter.message(index, bytes, rest)? {
            FieldValue::Composite => Some(FieldValue::Composite),
            value => into_static(value),
        }
    }

    /// The value of a map's entry; of several with one key the last counts.
    fn entry(
        self,
        message: &Message,
        index: usize,
        member: &Member,
        bytes: &'a [u8],
        key: &str,
        rest: &[String],
    ) -> Option<FieldValue<'a>> {
        let Scalar::Message(entry) = member.kind else { return None };
        let entry = self.plan.messages.get(entry)?;
        let places = places_of(message, index, bytes).ok()?;
        let found = places.iter().rev().map(|place| place.of(bytes));
        let content =
            found.into_iter().find(|content| scalar::key(entry, content).is_ok_and(|it| it == key))?;
        let index = entry.index_of(2)?;
        let value = entry.members.get(index)?;
        match self.singular(entry, index, value, content, rest) {
            Some(found) => Some(found),
            // An entry always has a value.
            None if places_of(entry, index, content).is_ok_and(|places| places.is_empty()) => {
                match value.kind {
                    Scalar::Message(index) => self.message(index, &[], rest),
                    _ => rest.is_empty().then(|| scalar::default(&value.kind)),
                }
            }
            None => None,
        }
    }

    fn json_value(self, message: &'a Message, bytes: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
        for (index, member) in message.members.iter().enumerate() {
            if places_of(message, index, bytes).ok()?.is_empty() {
                continue;
            }
            if &*member.name == "null_value" {
                break;
            }
            return self.singular(message, index, member, bytes, path);
        }
        path.is_empty().then_some(FieldValue::Null)
    }
}
