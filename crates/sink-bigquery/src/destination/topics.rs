//! Which table a topic's records go to that have no route.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex::{Captures, Regex, RegexBuilder};

use super::legal::{self, Part};
use super::template::{Piece, Template};
use super::text::Text;
use crate::name::TableName;

/// How a topic's name, or what a pattern took out of it, becomes a name of a table.
///
/// Names of tables hold letters, marks, numbers, `_`, `-` and spaces; a topic's can also hold dots. Names differ by case, in topics as
/// in tables; in a dataset that is made case-insensitive, topics that differ by case alone need
/// [`topic_table`](crate::BigQuerySinkBuilder::topic_table).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicNames {
    /// A legal name is kept. Any other gets `_` for what cannot be in it, and an ending by which no two topics meet:
    /// `shop.orders` becomes `shop_orders_x7458f44cdbf1d509`.
    #[default]
    Distinct,
    /// As Kafka Connect's `sanitizeTopics` makes them: everything but ASCII letters, digits and `_` becomes `_`. Where two topics of
    /// this process meet (`a.b` and `a_b`), the second one's lane stops with an error.
    Connect,
    /// Only legal names. The lane of another topic stops with an error.
    Exact,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topics {
    exact: Vec<(String, String)>,
    patterns: Vec<Pattern>,
    pub(super) names: TopicNames,
    /// By table, the name it was made of: of this process.
    met: Arc<Mutex<HashMap<TableName, String>>>,
}

#[derive(Clone, Debug)]
struct Pattern {
    regex: Regex,
    text: String,
    template: Template,
    template_text: String,
}

/// The table of a topic, before it is checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) project: Option<String>,
    pub(super) dataset: Option<String>,
    pub(super) table: String,
    /// What the table's name was made of, if it was changed in a way in which two may meet.
    pub(super) made_of: Option<String>,
}

/// The largest compiled pattern, in bytes.
const REGEX_MAX: usize = 1 << 20;

impl Topics {
    pub(crate) fn named_by(names: TopicNames) -> Self {
        Self { names, ..Self::default() }
    }

    /// Adds a topic's own table; the error is what is wrong.
    pub(crate) fn add(&mut self, topic: &str, table: &str) -> Result<(), String> {
        if topic.is_empty() {
            return Err("has no name".to_owned());
        }
        if self.exact.iter().any(|(known, _)| known == topic) {
            return Err("has two tables".to_owned());
        }
        self.exact.push((topic.to_owned(), table.to_owned()));
        Ok(())
    }

    /// Adds a pattern; the error is everything that is wrong with it.
    pub(crate) fn add_pattern(&mut self, pattern: &str, template: &str) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        // The pattern has to be one on its own, too: nothing that closes what is put around it.
        let whole = format!(r"\A(?:{pattern})\z");
        let regex = Regex::new(pattern).and_then(|_| RegexBuilder::new(&whole).size_limit(REGEX_MAX).build());
        if regex.is_err() {
            problems.push("is no regular expression of the regex crate".to_owned());
        }
        let parsed = Template::parse(template);
        if let Err(problem) = &parsed {
            problems.push(format!("has the table {template:?}, which {problem}"));
        }
        let (Ok(regex), Ok(parsed)) = (regex, parsed) else { return Err(problems) };
        for place in parsed.places() {
            let known = match place.parse::<usize>() {
                Ok(number) => number < regex.captures_len(),
                Err(_) => regex.capture_names().flatten().any(|name| name == place),
            };
            if !known {
                problems.push(format!("has no group {place:?}, which its table names"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (text, template_text) = (pattern.to_owned(), template.to_owned());
        self.patterns.push(Pattern { regex, text, template: parsed, template_text });
        Ok(())
    }

    /// The tables that are named as they are, each with its topic.
    pub(super) fn exact(&self) -> &[(String, String)] {
        &self.exact
    }

    /// Datasets that patterns name for certain, with their projects.
    pub(super) fn datasets(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.patterns.iter().filter_map(|pattern| {
            Some((pattern.template.project.as_deref(), pattern.template.fixed_dataset()?))
        })
    }

    /// The table a topic is given by name.
    pub(super) fn named(&self, topic: &str) -> Option<&str> {
        self.exact.iter().find(|(known, _)| known == topic).map(|(_, table)| table.as_str())
    }

    /// The table of the first pattern that the whole topic matches.
    pub(super) fn matched(&self, topic: &str) -> Option<Target> {
        self.patterns.iter().find_map(|pattern| {
            let captures = pattern.regex.captures(topic)?;
            let Template { project, dataset, table } = &pattern.template;
            let raw = filled(table, &captures);
            let (table, made_of) = self.name(&raw);
            let dataset = dataset.as_ref().map(|pieces| {
                let raw = filled(pieces, &captures);
                match self.names {
                    TopicNames::Distinct => distinct(Part::Dataset, &raw),
                    TopicNames::Connect => legal::connect(&raw),
                    TopicNames::Exact => raw,
                }
            });
            Some(Target { project: project.clone(), dataset, table, made_of })
        })
    }

    /// The name of a table, and what it was made of where two may meet.
    pub(super) fn name(&self, raw: &str) -> (String, Option<String>) {
        match self.names {
            TopicNames::Distinct => (distinct(Part::Table, raw), None),
            TopicNames::Connect => (legal::connect(raw), Some(raw.to_owned())),
            TopicNames::Exact => (raw.to_owned(), None),
        }
    }

    /// Notes what a table's name was made of; the error is what else it was made of before.
    pub(super) fn meet(&self, table: &TableName, made_of: &str) -> Result<(), String> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        match met.get(table) {
            Some(other) if other != made_of => Err(other.clone()),
            Some(_) => Ok(()),
            None => {
                met.insert(table.clone(), made_of.to_owned());
                Ok(())
            }
        }
    }

    /// What decides tables, for the fingerprint.
    pub(super) fn identity(&self) -> String {
        let mut exact = self.exact.clone();
        exact.sort();
        let patterns: Vec<_> =
            self.patterns.iter().map(|pattern| (&pattern.text, &pattern.template_text)).collect();
        format!("{:?} {exact:?} {patterns:?}", self.names)
    }
}

fn distinct(part: Part, raw: &str) -> String {
    let mut out = Text::<{ TableName::PART_MAX }>::default();
    legal::put_distinct(part, raw, &mut out);
    out.get().unwrap_or_default().to_owned()
}

fn filled(pieces: &[Piece], captures: &Captures<'_>) -> String {
    let mut filled = String::new();
    for piece in pieces {
        let text = match piece {
            Piece::Text(text) => text,
            Piece::Place(name) => match name.parse() {
                Ok(number) => captures.get(number),
                Err(_) => captures.name(name),
            }
            .map_or("", |found| found.as_str()),
        };
        filled.push_str(text);
    }
    filled
}
