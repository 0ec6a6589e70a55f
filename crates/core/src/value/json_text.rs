//! A value as JSON text.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};

use super::{Composite, FieldValue, StructuredValue, TimeUnit, ValueVisitor};
use crate::error::{Poison, PoisonReason};

/// Appends `value` to `out` as one line of JSON text.
///
/// Kinds that JSON does not have are written as readers expect them:
///
/// | kind | JSON |
/// | --- | --- |
/// | decimal | a number with all its digits: `12.50` |
/// | bytes | a string, base64 with padding |
/// | UUID | a string: `6ba7b810-9dad-11d1-80b4-00c04fd430c8` |
/// | date, time | strings: `2021-06-28`, `07:30:00.250` with the digits of its unit |
/// | timestamp | a string, RFC 3339 with the digits of its unit: `2021-06-28T07:30:00.250Z`; without `Z` if it is local |
/// | duration | a string, ISO 8601: `P1M2DT3.004S` |
/// | not a number, infinities | the strings `NaN`, `Infinity`, `-Infinity`, as the JSON mapping of Protobuf has them |
/// | map | an object |
/// | union | the value, without its branch |
///
/// # Errors
/// A [`Poison`] for a time that no calendar of four-digit years shows, for a decimal beyond
/// [its limits](super::Decimal::check_limits), and for decimals that have more than 16 777 216 digits behind their points together;
/// `out` may then hold a part, which the caller removes.
pub fn write_json<T: StructuredValue + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Poison> {
    value.visit(&mut JsonText::new(out))
}

/// The visitor behind [`write_json`], for what is written event by event.
#[derive(Debug)]
pub struct JsonText<'o> {
    out: &'o mut Vec<u8>,
    depth: u32,
    /// A bit per level: whether it has members already.
    filled: u128,
    /// A bit per level: whether it is a list.
    lists: u128,
    /// A key was written, so the next value needs no comma.
    keyed: bool,
    /// Digits behind the points of decimals so far.
    places: u64,
}

impl<'o> JsonText<'o> {
    /// Appends one value to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, depth: 0, filled: 0, lists: 0, keyed: false, places: 0 }
    }

    /// Gives the buffer back, for what comes behind the value.
    pub fn into_out(self) -> &'o mut Vec<u8> {
        self.out
    }

    fn level(&self) -> u128 {
        1_u128.checked_shl(self.depth.saturating_sub(1)).unwrap_or(0)
    }

    /// The comma before an element or key, if one is due.
    fn separate(&mut self) {
        if self.keyed {
            self.keyed = false;
        } else if self.depth > 0 {
            let level = self.level();
            if self.filled & level != 0 {
                self.out.push(b',');
            }
            self.filled |= level;
        }
    }

    /// A string of characters that need no escape.
    fn plain(&mut self, text: impl std::fmt::Display) {
        // Writing to memory cannot fail.
        write!(self.out, "\"{text}\"").ok();
    }

    fn float(&mut self, finite: bool, negative: bool, nan: bool, text: impl std::fmt::Debug) {
        if finite {
            // Debug has an exponent where Display would write hundreds of zeros.
            write!(self.out, "{text:?}").ok();
        } else if nan {
            self.out.extend_from_slice(b"\"NaN\"");
        } else {
            self.out.extend_from_slice(if negative { b"\"-Infinity\"" } else { b"\"Infinity\"" });
        }
    }
}

impl ValueVisitor for JsonText<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.separate();
        match value {
            FieldValue::Null | FieldValue::Composite => self.out.extend_from_slice(b"null"),
            FieldValue::Bool(true) => self.out.extend_from_slice(b"true"),
            FieldValue::Bool(false) => self.out.extend_from_slice(b"false"),
            FieldValue::I64(number) => {
                self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            FieldValue::U64(number) => {
                self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            FieldValue::F32(it) => self.float(it.is_finite(), it < 0.0, it.is_nan(), it),
            FieldValue::F64(it) => self.float(it.is_finite(), it < 0.0, it.is_nan(), it),
            FieldValue::Number(text) => self.out.extend_from_slice(text.as_bytes()),
            FieldValue::Decimal(number) => {
                number.check_limits()?;
                self.places += u64::from(number.scale());
                if self.places > PLACES_MAX {
                    return Err(too_many_places());
                }
                write!(self.out, "{number}").ok();
            }
            FieldValue::Str(text) => write_string(&text, self.out),
            FieldValue::Bytes(bytes) => self.plain(STANDARD.encode(bytes)),
            FieldValue::Uuid(bytes) => write_uuid(bytes, self.out),
            FieldValue::Date(days) => {
                self.out.push(b'"');
                write_date(date(days)?, self.out);
                self.out.push(b'"');
            }
            FieldValue::Time { count, unit } => {
                self.out.push(b'"');
                write_time(time(count, unit)?, unit, self.out);
                self.out.push(b'"');
            }
            FieldValue::Timestamp { count, unit, utc } => {
                let at = date_time(count, unit)?;
                self.out.push(b'"');
                write_date(at.date(), self.out);
                self.out.push(b'T');
                write_time(at.time(), unit, self.out);
                self.out.extend_from_slice(if utc { b"Z\"" } else { b"\"" });
            }
            FieldValue::Duration { months, days, millis } => {
                let (seconds, rest) = (millis / 1_000, millis % 1_000);
                self.plain(format_args!("P{months}M{days}DT{seconds}.{rest:03}S"));
            }
        }
        Ok(())
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.separate();
        if self.depth >= u128::BITS {
            return Err(Poison::new(PoisonReason::TooLarge, "the value nests deeper than 128 levels"));
        }
        self.depth += 1;
        let level = self.level();
        self.filled &= !level;
        if composite == Composite::List {
            self.lists |= level;
            self.out.push(b'[');
        } else {
            self.lists &= !level;
            self.out.push(b'{');
        }
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.separate();
        write_string(name, self.out);
        self.out.push(b':');
        self.keyed = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.out.push(if self.lists & self.level() == 0 { b'}' } else { b']' });
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }
}

/// A string with quotes; control characters, quotes and backslashes are escaped.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, escaped) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = escaped.split_first() else { break };
        rest = after;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                write!(out, "\\u{byte:04x}").ok();
            }
        }
    }
    out.push(b'"');
}

/// How many bytes there are in front of the first that is escaped.
fn plain_length(bytes: &[u8]) -> usize {
    let is_escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without an early exit inside of a piece, which is what lets it be vectorised: strings are most of a typical value.
    let is_plain = |piece: &&[u8]| !piece.iter().fold(false, |found, &byte| found | is_escaped(byte));
    let whole: usize = bytes.chunks(32).take_while(is_plain).map(<[u8]>::len).sum();
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().position(|&byte| is_escaped(byte)).unwrap_or(rest.len())
}

/// A UUID with quotes.
fn write_uuid(uuid: [u8; 16], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    out.push(b'"');
    for (index, byte) in uuid.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    out.push(b'"');
}

/// `2021-06-28`
fn write_date(date: Date, out: &mut Vec<u8>) {
    let Ok(year) = u32::try_from(date.year()) else {
        // A sign and six digits; nobody is in a hurry there.
        write!(out, "{date}").ok();
        return;
    };
    write_digits(year, 4, out);
    out.push(b'-');
    write_digits(date.month().unsigned_abs().into(), 2, out);
    out.push(b'-');
    write_digits(date.day().unsigned_abs().into(), 2, out);
}

/// `07:30:00.250`, with the digits of its unit.
fn write_time(time: Time, unit: TimeUnit, out: &mut Vec<u8>) {
    write_digits(time.hour().unsigned_abs().into(), 2, out);
    out.push(b':');
    write_digits(time.minute().unsigned_abs().into(), 2, out);
    out.push(b':');
    write_digits(time.second().unsigned_abs().into(), 2, out);
    out.push(b'.');
    let below_a_second = time.subsec_nanosecond().unsigned_abs();
    let (divisor, digits) = match unit {
        TimeUnit::Millis => (1_000_000, 3),
        TimeUnit::Micros => (1_000, 6),
        TimeUnit::Nanos => (1, 9),
    };
    write_digits(below_a_second / divisor, digits, out);
}

/// The last `count` digits of a number, with zeros in front.
fn write_digits(number: u32, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    let mut rest = number;
    for place in out.iter_mut().skip(start).rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
}

#[cold]
fn too_many_places() -> Poison {
    let text = format!("the decimals of a value have more than {PLACES_MAX} digits behind their points");
    Poison::new(PoisonReason::TooLarge, text)
}

#[cold]
fn outside(what: &str) -> Poison {
    Poison::new(PoisonReason::InvalidField, format!("a {what} is outside of the years -9999 to 9999"))
}

fn date(days: i32) -> Result<Date, Poison> {
    Date::constant(1970, 1, 1)
        .checked_add(SignedDuration::from_hours(i64::from(days) * 24))
        .map_err(|_| outside("date"))
}

fn time(count: i64, unit: TimeUnit) -> Result<Time, Poison> {
    let nanos = count.checked_mul(1_000_000_000 / unit.per_second());
    let span = nanos.filter(|nanos| (0..86_400_000_000_000).contains(nanos)).map(SignedDuration::from_nanos);
    let time = span.and_then(|span| Time::midnight().checked_add(span).ok());
    time.ok_or_else(|| Poison::new(PoisonReason::InvalidField, "a time is outside of a day"))
}

fn date_time(count: i64, unit: TimeUnit) -> Result<DateTime, Poison> {
    let (seconds, rest) = (count.div_euclid(unit.per_second()), count.rem_euclid(unit.per_second()));
    let nanos = i32::try_from(rest * (1_000_000_000 / unit.per_second())).unwrap_or_default();
    let at = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::new(seconds, nanos));
    at.map_err(|_| outside("timestamp"))
}

/// Digits behind the points of all decimals of a value. A scale stands in the schema, so that a megabyte of numbers of a byte
/// would be a gigabyte of zeros.
const PLACES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::value::Decimal;

    fn text(value: FieldValue<'_>) -> String {
        let mut out = Vec::new();
        JsonText::new(&mut out).scalar(value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn kinds_that_json_does_not_have_are_texts_that_readers_know() {
        let timestamp = |count, unit, utc| text(FieldValue::Timestamp { count, unit, utc });
        assert_eq!(timestamp(1_624_865_400_250, TimeUnit::Millis, true), r#""2021-06-28T07:30:00.250Z""#);
        assert_eq!(timestamp(-1, TimeUnit::Nanos, false), r#""1969-12-31T23:59:59.999999999""#);
        assert_eq!(timestamp(0, TimeUnit::Micros, true), r#""1970-01-01T00:00:00.000000Z""#);
        assert_eq!(text(FieldValue::Date(-1)), r#""1969-12-31""#);
        assert_eq!(text(FieldValue::Time { count: 27_000_250, unit: TimeUnit::Millis }), r#""07:30:00.250""#);
        assert_eq!(text(FieldValue::Duration { months: 1, days: 2, millis: 3_004 }), r#""P1M2DT3.004S""#);
        assert_eq!(text(FieldValue::Bytes(Cow::Borrowed(b"\xff\0"))), r#""/wA=""#);
        assert_eq!(text(FieldValue::Decimal(Decimal::from_i128(1250, 2))), "12.50");
        assert_eq!(text(FieldValue::F32(0.1)), "0.1");
        assert_eq!(text(FieldValue::F64(1e300)), "1e300");
        assert_eq!(text(FieldValue::F64(f64::NEG_INFINITY)), r#""-Infinity""#);
        assert_eq!(text(FieldValue::F64(f64::NAN)), r#""NaN""#);
        let uuid =
            text(FieldValue::Uuid(*b"\x6b\xa7\xb8\x10\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8"));
        assert_eq!(uuid, r#""6ba7b810-9dad-11d1-80b4-00c04fd430c8""#);
    }

    proptest! {
        #[test]
        fn times_are_spelled_as_jiff_spells_them(count: i64, days in -4_371_587..2_932_896_i32, unit in 0..3_usize) {
            let unit = [TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos][unit];
            prop_assert_eq!(text(FieldValue::Date(days)), format!("\"{}\"", date(days).unwrap()));
            // Every moment that a calendar shows, not only those that a random number hits.
            let count = count % 250_000_000_i64.saturating_mul(unit.per_second());
            let at = date_time(count, unit).unwrap();
            let expected = format!("\"{at:.digits$}Z\"", digits = unit.digits());
            prop_assert_eq!(text(FieldValue::Timestamp { count, unit, utc: true }), expected);
            let of_day = count.rem_euclid(86_400 * unit.per_second());
            let expected = format!("\"{:.digits$}\"", time(of_day, unit).unwrap(), digits = unit.digits());
            prop_assert_eq!(text(FieldValue::Time { count: of_day, unit }), expected);
        }

        #[test]
        fn strings_are_escaped_wherever_it_is_needed(string in "[a-z\"\\\\\n\u{1}é]{0,100}") {
            let written = text(FieldValue::Str(string.as_str().into()));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), string);
        }
    }

    #[test]
    fn times_outside_of_every_calendar_are_poisons() {
        let mut out = Vec::new();
        let mut refused = |value| JsonText::new(&mut out).scalar(value).unwrap_err().reason();
        let timestamp = FieldValue::Timestamp { count: i64::MAX, unit: TimeUnit::Millis, utc: true };
        assert_eq!(refused(timestamp), PoisonReason::InvalidField);
        assert_eq!(refused(FieldValue::Date(i32::MAX)), PoisonReason::InvalidField);
        let a_day = FieldValue::Time { count: 86_400_000, unit: TimeUnit::Millis };
        assert_eq!(refused(a_day), PoisonReason::InvalidField);
    }

    #[test]
    fn decimals_have_as_many_digits_as_the_limit() {
        let written = |bytes: usize, scale| {
            let mut out = Vec::new();
            let number = FieldValue::Decimal(Decimal::new(vec![0x7f; bytes], scale));
            JsonText::new(&mut out).scalar(number).map(|()| out.len())
        };
        assert_eq!(written(1_024, 0).unwrap(), 2_466);
        assert_eq!(written(1, 4_096).unwrap(), 4_098);
        assert_eq!(written(1_024, 4_096).unwrap(), 4_098);
        // Gigabytes of zeros, and minutes of divisions.
        for (bytes, scale) in [(1_025, 0), (1, 4_097), (1, 4_000_000_000), (1 << 20, 0)] {
            let poison = written(bytes, scale).unwrap_err();
            assert_eq!(poison.reason(), PoisonReason::TooLarge);
            assert!(poison.detail().contains("4096 digits behind its point"), "{poison}");
        }
    }

    #[test]
    fn many_decimals_have_as_many_zeros_as_the_limit() {
        let mut out = Vec::new();
        let mut json = JsonText::new(&mut out);
        let mut small = |scale| json.scalar(FieldValue::Decimal(Decimal::new(vec![1], scale)));
        for _ in 0..4_096 {
            small(4_096).unwrap();
        }
        let poison = small(1).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::TooLarge);
        assert!(poison.detail().contains("16777216"), "{poison}");
    }

    #[test]
    fn values_nest_up_to_the_limit() {
        let mut out = Vec::new();
        let mut json = JsonText::new(&mut out);
        for _ in 0..128 {
            json.begin(Composite::List).unwrap();
        }
        assert!(json.begin(Composite::List).is_err());
        for _ in 0..128 {
            json.end().unwrap();
        }
        assert_eq!(out.len(), 256);
    }

    proptest! {
        #[test]
        fn any_tree_reads_back(tree in tree()) {
            let mut out = Vec::new();
            give(&tree, &mut JsonText::new(&mut out)).unwrap();
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), tree);
        }
    }

    fn tree() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            // What serde_json reads exactly without its feature for it.
            any::<i32>().prop_map(|it| (f64::from(it) / 8.0).into()),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
                proptest::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn give(tree: &serde_json::Value, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        use serde_json::Value;
        match tree {
            Value::Null => visitor.scalar(FieldValue::Null),
            Value::Bool(it) => visitor.scalar(FieldValue::Bool(*it)),
            Value::String(it) => visitor.scalar(FieldValue::Str(it.into())),
            Value::Number(it) => visitor.scalar(match (it.as_i64(), it.as_u64()) {
                (Some(whole), _) => FieldValue::I64(whole),
                (_, Some(whole)) => FieldValue::U64(whole),
                _ => FieldValue::F64(it.as_f64().unwrap()),
            }),
            Value::Array(elements) => {
                visitor.begin(Composite::List)?;
                elements.iter().try_for_each(|element| give(element, visitor))?;
                visitor.end()
            }
            Value::Object(members) => {
                visitor.begin(Composite::Struct)?;
                for (name, member) in members {
                    visitor.key(name)?;
                    give(member, visitor)?;
                }
                visitor.end()
            }
        }
    }
}
