//! A schema's JSON as a tree that keeps the order of members: columns come in the order in which somebody wrote them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// One piece of the schema.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// The member of that name; the last of several, as for other readers.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().rev().find(|(member, _)| member == name).map(|(_, node)| node)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> Option<&[Self]> {
        match self.get(name)? {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Node, E> {
        Ok(Node::Bool(it))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers in schemas are scales and indexes")]
    fn visit_i64<E>(self, it: i64) -> Result<Node, E> {
        Ok(Node::Number(it as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers in schemas are scales and indexes")]
    fn visit_u64<E>(self, it: u64) -> Result<Node, E> {
        Ok(Node::Number(it as f64))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Node, E> {
        Ok(Node::Number(it))
    }

    fn visit_str<E>(self, it: &str) -> Result<Node, E> {
        Ok(Node::Text(it.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}
