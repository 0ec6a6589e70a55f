//! Patterns of `strftime`, as far as everybody means the same by them.
//!
//! The dialects of C, Python, Ruby, GNU `date` and chrono differ in what they know and in a few letters that they know
//! differently. What depends on a language other than through names, on the dialect, or pads with spaces is refused.

use std::iter::Peekable;
use std::str::Chars;

use super::part::Part;
use super::{Assembly, Pattern, Shown};
use crate::error::LayoutError;
use crate::time::names::Name;

impl Pattern {
    pub(in crate::time) fn strftime(text: &str) -> Result<Self, LayoutError> {
        let mut assembly = Assembly::default();
        let mut rest = text.chars().peekable();
        let mut position = 0;
        while let Some(character) = rest.next() {
            position += 1;
            if character != '%' {
                assembly.literal(character);
                continue;
            }
            let specifier = Specifier::read(&mut rest);
            specifier.assemble(&mut assembly).map_err(|remedy| LayoutError::UnsupportedLetter {
                pattern: text.to_owned(),
                letters: format!("%{}", specifier.text),
                position,
                remedy,
            })?;
            position += specifier.text.chars().count();
        }
        assembly.finish("strftime", text)
    }
}

/// What follows a percent sign.
struct Specifier {
    /// As it stands in the pattern.
    text: String,
    flag: Option<char>,
    /// A dot in front of the fraction.
    dot: bool,
    digits: Option<u32>,
    letter: Option<char>,
}

impl Specifier {
    fn read(rest: &mut Peekable<Chars<'_>>) -> Self {
        let mut text = String::new();
        let mut next_if = |wanted: fn(&char) -> bool| rest.next_if(wanted).inspect(|&found| text.push(found));
        let flag = next_if(|found| matches!(found, '-' | '_' | '0' | '^' | '#'));
        let dot = next_if(|&found| found == '.').is_some();
        let digits = next_if(char::is_ascii_digit).and_then(|digit| digit.to_digit(10));
        // One that stands for nothing is shown as it is: with what follows it, but without the next level.
        let letter = next_if(|&found| found != '/');
        Self { text, flag, dot, digits, letter }
    }

    /// Adds what the specifier shows, or says what to write instead.
    fn assemble(&self, assembly: &mut Assembly) -> Result<(), &'static str> {
        let letter = self.letter.ok_or("a percent sign itself is written %%")?;
        if let ('f', Some(digits @ 1..=9), None) = (letter, self.digits, self.flag) {
            if self.dot {
                assembly.literal('.');
            }
            let digits = u8::try_from(digits).unwrap_or(9);
            assembly.show(Shown::Number(Part::Fraction(digits)), digits.into());
            return Ok(());
        }
        if self.dot || self.digits.is_some() {
            return Err("only a fraction has a number of digits, 1 to 9, like %3f");
        }
        if let Some(name) = name(letter) {
            self.without_flag()?;
            assembly.show(Shown::Name(name), 0);
            return Ok(());
        }
        for &(composite, parts) in COMPOSITES {
            if composite == letter {
                self.without_flag()?;
                parts.chars().for_each(|character| match number(character) {
                    Ok((part, width)) => assembly.show(Shown::Number(part), width),
                    Err(_) => assembly.literal(character),
                });
                return Ok(());
            }
        }
        let (part, width) = number(letter)?;
        match self.flag {
            None if matches!(letter, 'e' | 'k' | 'l') => {
                return Err("pads with a space; write %d, %H or %I, or %-d and the like for no padding");
            }
            None | Some('0') => assembly.show(Shown::Number(part), width),
            Some('-') => assembly.show(Shown::Number(part), 1),
            Some('_') => return Err("pads with spaces; write it without _, or with - for no padding"),
            Some(_) => return Err("a number has no case; write it without the flag"),
        }
        Ok(())
    }

    fn without_flag(&self) -> Result<(), &'static str> {
        match self.flag {
            None => Ok(()),
            Some('^' | '#') => {
                Err("changes the case, which depends on a language; write it without the flag")
            }
            Some(_) => Err("only single numbers are padded; write it without the flag"),
        }
    }
}

fn name(letter: char) -> Option<Name> {
    match letter {
        'a' => Some(Name::ShortDay),
        'A' => Some(Name::Day),
        'b' | 'h' => Some(Name::ShortMonth),
        'B' => Some(Name::Month),
        _ => None,
    }
}

/// The number that a letter stands for and its usual digits, or what to write instead.
fn number(letter: char) -> Result<(Part, usize), &'static str> {
    Ok(match letter {
        'Y' => (Part::Year, 4),
        'y' => (Part::ShortYear, 2),
        'C' => (Part::Century, 2),
        'G' => (Part::WeekYear, 4),
        'g' => (Part::ShortWeekYear, 2),
        'q' => (Part::Quarter, 1),
        'm' => (Part::Month, 2),
        'V' => (Part::Week, 2),
        'U' => (Part::WeekFromSunday, 2),
        'W' => (Part::WeekFromMonday, 2),
        'd' | 'e' => (Part::DayOfMonth, 2),
        'j' => (Part::DayOfYear, 3),
        'u' => (Part::DayOfWeek, 1),
        'w' => (Part::DayFromSunday, 1),
        'H' | 'k' => (Part::Hour, 2),
        'I' | 'l' => (Part::HalfDayClockHour, 2),
        'M' => (Part::Minute, 2),
        'S' => (Part::Second, 2),
        'f' => return Err("has six digits in some languages and nine in others; write %3f, %6f or %9f"),
        'L' => return Err("is not known everywhere; write %3f"),
        'N' => return Err("is not known everywhere; write %9f"),
        'D' => return Err("has slashes, which separate levels; write %F, or %m/%d/%y if that is meant"),
        's' => return Err("counts from 1970 in UTC, and a route shows local time; write %H%M%S"),
        'c' | 'x' | 'X' | 'r' | '+' | 'E' | 'O' => {
            return Err("depends on a language or dialect; write it out, like %F or %H:%M:%S");
        }
        'p' | 'P' => return Err("half days depend on a language; write %H for the hour of the day"),
        'z' | 'Z' | ':' => return Err("a route lies in one zone; write its name as it is"),
        'n' | 't' => return Err("a route has no line breaks and tabs; leave it out"),
        _ => return Err("is no specifier; a percent sign itself is written %%"),
    })
}

/// What is short for several numbers and the text between them.
const COMPOSITES: &[(char, &str)] = &[('F', "Y-m-d"), ('T', "H:M:S"), ('R', "H:M"), ('%', "%")];
