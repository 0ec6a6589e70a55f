//! Joda-Time patterns: parsing once, rendering per record.

use std::fmt::{self, Write as _};

use aqueduct_core::{Poison, PoisonReason, RoutePath};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::error::LayoutError;
use crate::short_text::{DIGITS_MAX, ShortText};

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Number(Part, usize),
    /// The last two digits.
    ShortYear(Part),
    /// The first digits of the second's fraction.
    Fraction(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    WeekYear,
    Month,
    Week,
    DayOfMonth,
    DayOfYear,
    DayOfWeek,
    /// 0–23.
    Hour,
    /// 1–24.
    ClockHour,
    /// 0–11.
    HalfDayHour,
    /// 1–12.
    HalfDayClockHour,
    Minute,
    Second,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, LayoutError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().enumerate().peekable();
        while let Some((index, character)) = rest.next() {
            if character == '\'' {
                quoted(&mut rest, &mut literal).ok_or_else(|| LayoutError::UnclosedQuote {
                    pattern: text.to_owned(),
                    position: index + 1,
                })?;
            } else if character.is_ascii_alphabetic() {
                let mut count = 1;
                while rest.next_if(|&(_, next)| next == character).is_some() {
                    count += 1;
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(
                    piece(character, count).map_err(|remedy| LayoutError::UnsupportedLetter {
                        pattern: text.to_owned(),
                        letters: std::iter::repeat_n(character, count).collect(),
                        position: index + 1,
                        remedy,
                    })?,
                );
            } else {
                literal.push(character);
            }
        }
        if pieces.is_empty() {
            return Err(LayoutError::NoLetters {
                pattern: text.to_owned(),
            });
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        let length = pieces.iter().map(Piece::length_max).sum();
        if length > RENDERED_MAX {
            return Err(LayoutError::PatternTooLong {
                pattern: text.to_owned(),
                length,
                limit: RENDERED_MAX,
            });
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// The pattern as given.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends the levels for a clock's reading, given as milliseconds between 1970-01-01 00:00 and the reading.
    pub(super) fn render(&self, local_ms: i64, path: &mut RoutePath) -> Result<(), Poison> {
        let out_of_calendar = || {
            Poison::new(
                PoisonReason::InvalidTimestamp,
                "the time is outside what a calendar can show",
            )
        };
        let reading = Timestamp::from_millisecond(local_ms).map_err(|_| out_of_calendar())?;
        let clock = Offset::UTC.to_datetime(reading);
        let mut rendered = ShortText::<RENDERED_MAX>::new();
        for piece in &self.pieces {
            piece
                .render(clock, &mut rendered)
                .map_err(|_| out_of_calendar())?;
        }
        path.push_levels(rendered.as_str())
    }
}

/// Reads up to the closing quote; two quotes in a row are one, also as the whole of it. `None` without a closing one.
fn quoted(
    rest: &mut std::iter::Peekable<impl Iterator<Item = (usize, char)>>,
    literal: &mut String,
) -> Option<()> {
    if rest.next_if(|&(_, next)| next == '\'').is_some() {
        literal.push('\'');
        return Some(());
    }
    loop {
        match rest.next()?.1 {
            '\'' if rest.next_if(|&(_, next)| next == '\'').is_some() => literal.push('\''),
            '\'' => return Some(()),
            other => literal.push(other),
        }
    }
}

/// What `count` times `letter` stands for, or what to write instead.
fn piece(letter: char, count: usize) -> Result<Piece, &'static str> {
    if count > DIGITS_MAX {
        return Err("that many digits make no sense; write fewer");
    }
    let part = match letter {
        'y' | 'Y' => Part::Year,
        'x' => Part::WeekYear,
        'M' if count > 2 => return Err("names of months depend on a language; write MM"),
        'M' => Part::Month,
        'w' => Part::Week,
        'd' => Part::DayOfMonth,
        'D' => Part::DayOfYear,
        'e' => Part::DayOfWeek,
        'H' => Part::Hour,
        'k' => Part::ClockHour,
        'K' => Part::HalfDayHour,
        'h' => Part::HalfDayClockHour,
        'm' => Part::Minute,
        's' => Part::Second,
        'S' => return Ok(Piece::Fraction(count)),
        'E' => return Err("names of days depend on a language; write e for the day's number"),
        'a' => return Err("half days depend on a language; write HH for the hour of the day"),
        'z' | 'Z' => return Err("a route lies in one zone; write its name in single quotes"),
        _ => return Err("put plain text in single quotes, like 'year'=YYYY"),
    };
    Ok(match part {
        Part::Year | Part::WeekYear if count == 2 => Piece::ShortYear(part),
        _ => Piece::Number(part, count),
    })
}

impl Piece {
    /// The most bytes the piece can render.
    fn length_max(&self) -> usize {
        match self {
            Self::Literal(text) => text.len(),
            // Years have four digits at most, and nothing has more.
            Self::Number(_, width) => (*width).max(4),
            Self::ShortYear(_) => 2,
            Self::Fraction(width) => *width,
        }
    }

    #[inline]
    fn render(&self, clock: DateTime, out: &mut ShortText<RENDERED_MAX>) -> fmt::Result {
        match self {
            Self::Literal(text) => out.write_str(text),
            Self::Number(part, width) => out.push_padded(part.of(clock), *width),
            Self::ShortYear(part) => out.push_padded(part.of(clock) % 100, 2),
            Self::Fraction(width) => {
                let nanos = clock.subsec_nanosecond().unsigned_abs();
                let shown = u32::try_from((*width).min(9)).map_err(|_| fmt::Error)?;
                out.push_padded(nanos / 10_u32.pow(9 - shown), (*width).min(9))?;
                // A clock of milliseconds has no further digits.
                (9..*width).try_for_each(|_| out.push_padded(0, 1))
            }
        }
    }
}

impl Part {
    #[inline]
    fn of(self, clock: DateTime) -> u32 {
        let hour = clock.hour();
        let number = match self {
            Self::Year => return clock.year().unsigned_abs().into(),
            Self::WeekYear => return clock.date().iso_week_date().year().unsigned_abs().into(),
            Self::DayOfYear => return clock.day_of_year().unsigned_abs().into(),
            Self::Month => clock.month(),
            Self::Week => clock.date().iso_week_date().week(),
            Self::DayOfMonth => clock.day(),
            Self::DayOfWeek => clock.weekday().to_monday_one_offset(),
            Self::Hour => hour,
            Self::ClockHour => (hour + 23) % 24 + 1,
            Self::HalfDayHour => hour % 12,
            Self::HalfDayClockHour => (hour + 11) % 12 + 1,
            Self::Minute => clock.minute(),
            Self::Second => clock.second(),
        };
        number.unsigned_abs().into()
    }
}

/// Half of what a route may have; the rest is for other levels.
const RENDERED_MAX: usize = 256;

#[cfg(test)]
mod tests;
