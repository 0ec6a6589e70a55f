//! Patterns of Joda-Time's `DateTimeFormat`.

use std::iter::Peekable;

use super::part::Part;
use super::{Assembly, Pattern, Shown};
use crate::error::LayoutError;
use crate::short_text::DIGITS_MAX;
use crate::time::names::Name;

impl Pattern {
    pub(in crate::time) fn joda(text: &str) -> Result<Self, LayoutError> {
        let mut assembly = Assembly::default();
        let mut rest = text.chars().enumerate().peekable();
        while let Some((index, character)) = rest.next() {
            if character == '\'' {
                quoted(&mut rest, &mut assembly).ok_or_else(|| LayoutError::UnclosedQuote {
                    pattern: text.to_owned(),
                    position: index + 1,
                })?;
            } else if character.is_ascii_alphabetic() {
                let mut count = 1;
                while rest.next_if(|&(_, next)| next == character).is_some() {
                    count += 1;
                }
                let shown = part(character, count).map_err(|remedy| LayoutError::UnsupportedLetter {
                    pattern: text.to_owned(),
                    letters: std::iter::repeat_n(character, count).collect(),
                    position: index + 1,
                    remedy,
                })?;
                assembly.show(shown, count);
            } else {
                assembly.literal(character);
            }
        }
        assembly.finish("joda", text)
    }
}

/// Reads up to the closing quote; two quotes in a row are one, also as the whole of it. `None` without a closing one.
fn quoted(rest: &mut Peekable<impl Iterator<Item = (usize, char)>>, assembly: &mut Assembly) -> Option<()> {
    if rest.next_if(|&(_, next)| next == '\'').is_some() {
        assembly.literal('\'');
        return Some(());
    }
    loop {
        match rest.next()?.1 {
            '\'' if rest.next_if(|&(_, next)| next == '\'').is_some() => assembly.literal('\''),
            '\'' => return Some(()),
            other => assembly.literal(other),
        }
    }
}

/// What `count` times `letter` stands for, or what to write instead.
fn part(letter: char, count: usize) -> Result<Shown, &'static str> {
    if count > DIGITS_MAX {
        return Err("that many digits make no sense; write fewer");
    }
    Ok(Shown::Number(match letter {
        'y' | 'Y' if count == 2 => Part::ShortYear,
        'y' | 'Y' => Part::Year,
        'x' if count == 2 => Part::ShortWeekYear,
        'x' => Part::WeekYear,
        'M' if count > 3 => return Ok(Shown::Name(Name::Month)),
        'M' if count == 3 => return Ok(Shown::Name(Name::ShortMonth)),
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
        'E' if count > 3 => return Ok(Shown::Name(Name::Day)),
        'E' => return Ok(Shown::Name(Name::ShortDay)),
        'a' => return Err("half days depend on a language; write HH for the hour of the day"),
        'z' | 'Z' => return Err("a route lies in one zone; write its name in single quotes"),
        _ => return Err("put plain text in single quotes, like 'year'=YYYY"),
    }))
}
