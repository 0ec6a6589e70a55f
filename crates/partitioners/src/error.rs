//! What can be wrong with a layout's configuration.

use aqueduct_core::FieldPathError;

/// Why a partitioner cannot be made. Found when the program starts, before a record is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A path to a field is malformed.
    #[error(transparent)]
    Path(#[from] FieldPathError),
    /// Two levels of one layout have the same name, so readers would take them for one column.
    #[error("layout by field: two levels are called {name:?}; name one of them yourself with `and_named`")]
    DuplicateLevel {
        /// The name.
        name: String,
    },
    /// A zone that the bundled time-zone database does not know.
    #[error(
        "layout by time: unknown time zone {zone:?}; give an IANA name like Asia/Seoul or an offset like +09:00"
    )]
    UnknownZone {
        /// The zone as given.
        zone: String,
    },
    /// A locale without names of months and days.
    #[error(
        "layout by time: no names of months and days are known for locale {locale:?}; give a language like de, with a \
         region where names differ by it, like en-GB"
    )]
    UnknownLocale {
        /// The locale as given.
        locale: String,
    },
    /// A letter or specifier that patterns do not have: in Joda's notation mostly text without quotes.
    #[error("time pattern {pattern:?}: {letters:?} at character {position} is not supported: {remedy}")]
    UnsupportedLetter {
        /// The pattern.
        pattern: String,
        /// The letter as often as it is repeated, or the specifier.
        letters: String,
        /// Where it stands, in characters from 1.
        position: usize,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A quote without its partner.
    #[error(
        "time pattern {pattern:?}: the quote at character {position} is never closed; write '' for a quote itself"
    )]
    UnclosedQuote {
        /// The pattern.
        pattern: String,
        /// Where it stands, in characters from 1.
        position: usize,
    },
    /// A pattern that renders the same for every time.
    #[error(
        "time pattern {pattern:?} shows nothing of a time; write one like 'year'=YYYY/'month'=MM (Joda) or \
         year=%Y/month=%m (strftime)"
    )]
    NoLetters {
        /// The pattern.
        pattern: String,
    },
    /// A pattern that renders more than a route should hold.
    #[error("time pattern {pattern:?} renders up to {length} bytes, the limit is {limit}; shorten it")]
    PatternTooLong {
        /// The pattern.
        pattern: String,
        /// Bytes it may render.
        length: usize,
        /// Bytes it may have at most.
        limit: usize,
    },
    /// A header of eight bytes cannot hold text.
    #[error(
        "header {header:?}: ISO-8601 is text and no number of eight bytes; give a unit such as TimeFormat::Millis, or \
         read it with HeaderTime::text"
    )]
    TextInBytes {
        /// The header's name.
        header: String,
    },
    /// A stand-in for missing fields that could not be told from a value.
    #[error(
        "layout by field: {default:?} cannot stand in for a missing {name:?}: give 1 to {limit} bytes without control \
         characters and without / \\ % =, such as \"unknown\""
    )]
    UnusableDefault {
        /// The level's name.
        name: String,
        /// The stand-in.
        default: String,
        /// Bytes it may have at most.
        limit: usize,
    },
    /// A period that divides nothing.
    #[error("layout by time: the period is 0; give at least 1 ms, as in Duration::from_mins(15)")]
    ZeroPeriod,
}
