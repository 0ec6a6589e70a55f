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
    /// Text in which only digits at known places change: all of a usual pattern.
    Form { text: String, slots: Vec<Slot> },
    /// A number that takes as many digits as it needs, and at least so many.
    Number(Part, usize),
}

/// Where in a form a number goes, and in how many digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    part: Part,
    at: usize,
    width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    /// The last two digits.
    ShortYear,
    WeekYear,
    /// The last two digits.
    ShortWeekYear,
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
    /// The first digits of the second's fraction, truncated.
    Fraction(u8),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, LayoutError> {
        let mut pieces = Vec::new();
        let mut form = Form::default();
        let mut has_letters = false;
        let mut rest = text.chars().enumerate().peekable();
        while let Some((index, character)) = rest.next() {
            if character == '\'' {
                quoted(&mut rest, &mut form.text).ok_or_else(|| LayoutError::UnclosedQuote {
                    pattern: text.to_owned(),
                    position: index + 1,
                })?;
            } else if character.is_ascii_alphabetic() {
                let mut count = 1;
                while rest.next_if(|&(_, next)| next == character).is_some() {
                    count += 1;
                }
                let part = part(character, count).map_err(|remedy| LayoutError::UnsupportedLetter {
                    pattern: text.to_owned(),
                    letters: std::iter::repeat_n(character, count).collect(),
                    position: index + 1,
                    remedy,
                })?;
                has_letters = true;
                form.push(part, count, &mut pieces);
            } else {
                form.text.push(character);
            }
        }
        if !has_letters {
            return Err(LayoutError::NoLetters { pattern: text.to_owned() });
        }
        form.finish(&mut pieces);
        let length = pieces.iter().map(Piece::length_max).sum();
        if length > RENDERED_MAX {
            return Err(LayoutError::PatternTooLong {
                pattern: text.to_owned(),
                length,
                limit: RENDERED_MAX,
            });
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// The pattern as given.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends the levels for a clock's reading, given as milliseconds between 1970-01-01 00:00 and the reading.
    pub(super) fn render(&self, local_ms: i64, path: &mut RoutePath) -> Result<(), Poison> {
        let out_of_calendar =
            || Poison::new(PoisonReason::InvalidTimestamp, "the time is outside what a calendar can show");
        let reading = Timestamp::from_millisecond(local_ms).map_err(|_| out_of_calendar())?;
        let clock = Offset::UTC.to_datetime(reading);
        let mut rendered = ShortText::<RENDERED_MAX>::new();
        for piece in &self.pieces {
            piece.render(clock, &mut rendered).map_err(|_| out_of_calendar())?;
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
fn part(letter: char, count: usize) -> Result<Part, &'static str> {
    if count > DIGITS_MAX {
        return Err("that many digits make no sense; write fewer");
    }
    Ok(match letter {
        'y' | 'Y' if count == 2 => Part::ShortYear,
        'y' | 'Y' => Part::Year,
        'x' if count == 2 => Part::ShortWeekYear,
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
        // A clock of nanoseconds has no tenth digit.
        'S' => Part::Fraction(u8::try_from(count.min(9)).unwrap_or(9)),
        'E' => return Err("names of days depend on a language; write e for the day's number"),
        'a' => return Err("half days depend on a language; write HH for the hour of the day"),
        'z' | 'Z' => return Err("a route lies in one zone; write its name in single quotes"),
        _ => return Err("put plain text in single quotes, like 'year'=YYYY"),
    })
}

/// The form that is being put together while parsing.
#[derive(Default)]
struct Form {
    text: String,
    slots: Vec<Slot>,
}

impl Form {
    fn push(&mut self, part: Part, width: usize, pieces: &mut Vec<Piece>) {
        if width < part.digits_max() {
            self.finish(pieces);
            pieces.push(Piece::Number(part, width));
            return;
        }
        let at = self.text.len();
        self.text.extend(std::iter::repeat_n('0', width));
        // Further digits of a fraction stay zeros behind it, those of a number before it.
        let width = if let Part::Fraction(digits) = part { digits.into() } else { width };
        self.slots.push(Slot { part, at, width });
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if !self.text.is_empty() {
            let Self { text, slots } = std::mem::take(self);
            pieces.push(Piece::Form { text, slots });
        }
    }
}

impl Piece {
    /// The most bytes the piece can render.
    fn length_max(&self) -> usize {
        match self {
            Self::Form { text, .. } => text.len(),
            Self::Number(part, width) => part.digits_max().max(*width),
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
        }
    }
}

impl Part {
    /// The most digits its numbers have, in the years 1 to 9999.
    fn digits_max(self) -> usize {
        match self {
            Self::Year | Self::WeekYear => 4,
            Self::DayOfYear => 3,
            Self::DayOfWeek => 1,
            Self::Fraction(digits) => digits.into(),
            _ => 2,
        }
    }

    #[inline]
    fn of(self, clock: DateTime) -> u32 {
        let hour = clock.hour();
        let number = match self {
            Self::Year => return clock.year().unsigned_abs().into(),
            Self::ShortYear => return u32::from(clock.year().unsigned_abs()) % 100,
            Self::WeekYear => return clock.date().iso_week_date().year().unsigned_abs().into(),
            Self::ShortWeekYear => {
                return u32::from(clock.date().iso_week_date().year().unsigned_abs()) % 100;
            }
            Self::DayOfYear => return clock.day_of_year().unsigned_abs().into(),
            Self::Fraction(digits) => {
                let unseen = 9_u32.saturating_sub(digits.into());
                return clock.subsec_nanosecond().unsigned_abs() / 10_u32.pow(unseen);
            }
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
