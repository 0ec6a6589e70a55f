//! Patterns: put together once from one of two notations, rendered per record.

use std::fmt::{self, Write as _};

use aqueduct_core::{Poison, PoisonReason, RoutePath};
use jiff::civil::DateTime;

use super::names::{Name, Names};
use super::zone::civil;
use crate::error::LayoutError;
use crate::short_text::ShortText;
use part::Part;

mod joda;
mod part;
mod strftime;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    notation: &'static str,
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Text in which only digits at known places change: all of a usual pattern.
    Form { text: String, slots: Vec<Slot> },
    /// A number that takes as many digits as it needs, and at least so many.
    Number(Part, usize),
    /// One of twelve or seven names.
    Name(Name, Vec<String>),
}

/// Where in a form a number goes, and in how many digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    part: Part,
    at: usize,
    width: usize,
}

impl Pattern {
    /// The notation the pattern is given in.
    pub(super) fn notation(&self) -> &'static str {
        self.notation
    }

    /// The pattern as given.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes the names of months and days from `names`.
    #[cfg(feature = "locales")]
    pub(super) fn with_names(mut self, names: &Names) -> Result<Self, LayoutError> {
        for piece in &mut self.pieces {
            if let Piece::Name(name, table) = piece {
                *table = names.table(*name);
            }
        }
        self.check_length()
    }

    /// The names that the pattern may render, all of them.
    pub(super) fn names(&self) -> impl Iterator<Item = &[String]> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Name(_, table) => Some(table.as_slice()),
            _ => None,
        })
    }

    /// Appends the levels for a clock's reading, given as milliseconds between 1970-01-01 00:00 and the reading.
    pub(super) fn render(&self, local_ms: i64, path: &mut RoutePath) -> Result<(), Poison> {
        let out_of_calendar =
            || Poison::new(PoisonReason::InvalidTimestamp, "the time is outside what a calendar can show");
        let clock = civil(local_ms).ok_or_else(out_of_calendar)?;
        let mut rendered = ShortText::<RENDERED_MAX>::new();
        for piece in &self.pieces {
            piece.render(clock, &mut rendered).map_err(|_| out_of_calendar())?;
        }
        path.push_levels(rendered.as_str())
    }

    fn check_length(self) -> Result<Self, LayoutError> {
        let length = self.pieces.iter().map(Piece::length_max).sum();
        if length > RENDERED_MAX {
            return Err(LayoutError::PatternTooLong { pattern: self.text, length, limit: RENDERED_MAX });
        }
        Ok(self)
    }
}

/// What a letter or specifier shows.
#[derive(Clone, Copy)]
enum Shown {
    Number(Part),
    Name(Name),
}

/// The pattern that is being put together while parsing.
#[derive(Default)]
struct Assembly {
    text: String,
    slots: Vec<Slot>,
    pieces: Vec<Piece>,
    shows_time: bool,
}

impl Assembly {
    fn literal(&mut self, character: char) {
        self.text.push(character);
    }

    /// Adds a number in `width` digits, or a name as long as it is.
    fn show(&mut self, shown: Shown, width: usize) {
        self.shows_time = true;
        match shown {
            Shown::Number(part) if width < part.digits_max() => {
                self.finish_form();
                self.pieces.push(Piece::Number(part, width));
            }
            Shown::Number(part) => {
                let at = self.text.len();
                self.text.extend(std::iter::repeat_n('0', width));
                // Further digits of a fraction stay zeros behind it, those of a number before it.
                let width = if let Part::Fraction(digits) = part { digits.into() } else { width };
                self.slots.push(Slot { part, at, width });
            }
            Shown::Name(name) => {
                self.finish_form();
                self.pieces.push(Piece::Name(name, Names::english().table(name)));
            }
        }
    }

    fn finish_form(&mut self) {
        if !self.text.is_empty() {
            let (text, slots) = (std::mem::take(&mut self.text), std::mem::take(&mut self.slots));
            self.pieces.push(Piece::Form { text, slots });
        }
    }

    fn finish(mut self, notation: &'static str, text: &str) -> Result<Pattern, LayoutError> {
        if !self.shows_time {
            return Err(LayoutError::NoLetters { pattern: text.to_owned() });
        }
        self.finish_form();
        Pattern { notation, text: text.to_owned(), pieces: self.pieces }.check_length()
    }
}

impl Piece {
    /// The most bytes the piece can render.
    fn length_max(&self) -> usize {
        match self {
            Self::Form { text, .. } => text.len(),
            Self::Number(part, width) => part.digits_max().max(*width),
            Self::Name(_, table) => table.iter().map(String::len).max().unwrap_or_default(),
        }
    }

    #[inline]
    fn render(&self, clock: DateTime, out: &mut ShortText<RENDERED_MAX>) -> fmt::Result {
        match self {
            Self::Form { text, slots } => {
                let start = out.len();
                out.write_str(text)?;
                slots.iter().try_for_each(|slot| out.put(start + slot.at, slot.width, slot.part.of(clock)))
            }
            Self::Number(part, width) => out.push_padded(part.of(clock), *width),
            Self::Name(name, table) => out.write_str(table.get(name.index(clock)).ok_or(fmt::Error)?),
        }
    }
}

/// Half of what a route may have; the rest is for other levels.
const RENDERED_MAX: usize = 256;

#[cfg(test)]
mod tests;
