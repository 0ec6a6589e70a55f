//! One value, as a reader that is not ours tells it: with its kind, so that nothing that differs compares equal.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// A value of a row, or a whole row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// There is none.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A 64-bit float by its bits: -0.0 is not 0.0, and NaN is equal to itself.
    F64(u64),
    /// A 32-bit float by its bits.
    F32(u32),
    /// A number of a text format, as it is written there.
    Number(String),
    /// A decimal with all its digits.
    Decimal(String),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A UUID in its usual text.
    Uuid(String),
    /// Days since 1970-01-01.
    Date(i64),
    /// Units since midnight.
    Time(i64, Unit),
    /// Units since 1970-01-01T00:00, and whether that is UTC.
    Timestamp(i64, Unit, bool),
    /// Months, days and milliseconds.
    Duration([u32; 3]),
    /// Elements in order.
    List(Vec<Self>),
    /// Entries, sorted by key.
    Map(Vec<(String, Self)>),
    /// Members, sorted by name; one that is not there is not the same as one that is null.
    Record(Vec<(String, Self)>),
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl Cell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A 64-bit float.
    pub fn f64(value: f64) -> Self {
        Self::F64(value.to_bits())
    }

    /// A 32-bit float.
    pub fn f32(value: f32) -> Self {
        Self::F32(value.to_bits())
    }

    /// A record of these members.
    pub fn record<N: Into<String>>(members: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::Record(sorted(members))
    }

    /// A map of these entries.
    pub fn map<N: Into<String>>(entries: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::Map(sorted(entries))
    }

    /// The same without members that are null, in records at every depth.
    #[must_use]
    pub fn without_nulls(self) -> Self {
        let all = |members: Vec<(String, Self)>| {
            members.into_iter().map(|(name, value)| (name, value.without_nulls()))
        };
        match self {
            Self::Record(members) => {
                Self::Record(all(members).filter(|(_, value)| *value != Self::Null).collect())
            }
            Self::Map(members) => Self::Map(all(members).collect()),
            Self::List(items) => Self::List(items.into_iter().map(Self::without_nulls).collect()),
            other => other,
        }
    }

    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let (Self::Record(members) | Self::Map(members)) = self else { return None };
        members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Whether a number of a text format is this number: a text has no kinds, only digits.
    fn is_spelled(&self, found: &Self) -> bool {
        let text = match found {
            Self::Number(text) => text.clone(),
            Self::Int(whole) => whole.to_string(),
            _ => return false,
        };
        match self {
            Self::F64(bits) => text.parse().is_ok_and(|it: f64| it.to_bits() == *bits),
            Self::F32(bits) => text.parse().is_ok_and(|it: f32| it.to_bits() == *bits),
            Self::Decimal(digits) => *digits == text,
            _ => false,
        }
    }

    /// Where `found` is another value than this, and how; none if it is the same. Numbers as text has them are compared by what
    /// they say.
    pub fn difference(&self, found: &Self) -> Option<String> {
        match (self, found) {
            (Self::Record(ours), Self::Record(theirs)) | (Self::Map(ours), Self::Map(theirs)) => {
                members_difference(ours, theirs)
            }
            (Self::List(ours), Self::List(theirs)) if ours.len() == theirs.len() => {
                let mut pairs = ours.iter().zip(theirs).enumerate();
                pairs.find_map(|(index, (ours, theirs))| {
                    Some(format!("[{index}]{}", ours.difference(theirs)?))
                })
            }
            _ if self == found || self.is_spelled(found) => None,
            _ => Some(format!(": expected {self}, found {found}")),
        }
    }
}

fn sorted<N: Into<String>>(members: impl IntoIterator<Item = (N, Cell)>) -> Vec<(String, Cell)> {
    let mut members: Vec<_> = members.into_iter().map(|(name, value)| (name.into(), value)).collect();
    members.sort();
    members
}

fn members_difference(ours: &[(String, Cell)], theirs: &[(String, Cell)]) -> Option<String> {
    let of = |members: &[(String, Cell)]| members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (expected, found) = (of(ours), of(theirs));
    if expected != found {
        let missing: Vec<_> = expected.iter().filter(|name| !found.contains(name)).collect();
        let added: Vec<_> = found.iter().filter(|name| !expected.contains(name)).collect();
        return Some(format!(": members missing {missing:?}, not expected {added:?}, found {found:?}"));
    }
    let mut pairs = ours.iter().zip(theirs);
    pairs.find_map(|((name, ours), (_, theirs))| Some(format!(".{name}{}", ours.difference(theirs)?)))
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are made up: they may be told.
        let text = match self {
            Self::F64(bits) => format!("F64({:?})", f64::from_bits(*bits)),
            Self::F32(bits) => format!("F32({:?})", f32::from_bits(*bits)),
            other => format!("{other:?}"),
        };
        match text.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}

const SHOWN_MAX: usize = 400;

impl TryFrom<Value> for Cell {
    type Error = anyhow::Error;

    /// From the spelling of `read.py`, which says what it is.
    fn try_from(value: Value) -> Result<Self> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => {
                let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                Self::Int(whole.with_context(|| format!("{number} is no whole number of 64 bits"))?)
            }
            Value::Array(items) => Self::List(items.into_iter().map(Self::try_from).collect::<Result<_>>()?),
            Value::Object(members) => {
                if let Some((kind, value)) = members.iter().next().filter(|(name, _)| name.starts_with('$')) {
                    ensure!(members.len() == 1, "{kind} has company: {members:?}");
                    return tagged(kind, value).with_context(|| format!("{kind} cannot be {value}"));
                }
                let members = members.into_iter().map(|(name, value)| Ok((name, Self::try_from(value)?)));
                Self::record(members.collect::<Result<Vec<_>>>()?)
            }
        })
    }
}

fn tagged(kind: &str, value: &Value) -> Result<Cell> {
    let text = || value.as_str().map(str::to_owned).context("no text");
    let at = |index: usize| value.get(index).context("too short");
    let int = |value: &Value| value.as_i64().context("no whole number");
    let unit = |value: &Value| Unit::parse(value.as_str().unwrap_or_default());
    Ok(match kind {
        "$f64" => Cell::F64(u64::from_str_radix(&text()?, 16)?),
        "$f32" => Cell::F32(u32::from_str_radix(&text()?, 16)?),
        "$num" => Cell::Number(text()?),
        "$dec" => Cell::Decimal(text()?),
        "$bytes" => Cell::Bytes(unhex(&text()?)?),
        "$uuid" => Cell::Uuid(text()?),
        "$date" => Cell::Date(int(value)?),
        "$time" => Cell::Time(int(at(0)?)?, unit(at(1)?)?),
        "$ts" => Cell::Timestamp(int(at(0)?)?, unit(at(1)?)?, at(2)?.as_bool().context("no truth value")?),
        "$duration" => {
            let part = |index| anyhow::Ok(u32::try_from(int(at(index)?)?)?);
            Cell::Duration([part(0)?, part(1)?, part(2)?])
        }
        "$map" => {
            let entries = value.as_array().context("no list")?.iter().map(|entry| {
                let key = entry.get(0).and_then(Value::as_str).context("a key that is no text")?;
                Ok((key.to_owned(), Cell::try_from(entry.get(1).cloned().context("no value")?)?))
            });
            Cell::Map(sorted(entries.collect::<Result<Vec<_>>>()?))
        }
        other => bail!("{other} is no kind"),
    })
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.is_ascii() && text.len().is_multiple_of(2), "no hexadecimal text");
    let digits = (0..text.len()).step_by(2).filter_map(|at| text.get(at..at + 2));
    Ok(digits.map(|two| u8::from_str_radix(two, 16)).collect::<Result<_, _>>()?)
}

impl Unit {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "s" => Self::Seconds,
            "ms" => Self::Millis,
            "us" => Self::Micros,
            "ns" => Self::Nanos,
            other => bail!("{other:?} is no unit of time"),
        })
    }

    /// How many make a second.
    pub const fn per_second(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cell(value: Value) -> Cell {
        Cell::try_from(value).unwrap()
    }

    #[test]
    fn every_kind_is_read_as_what_it_is() {
        let read = [
            (json!(null), Cell::Null),
            (json!(u64::MAX), Cell::Int(i128::from(u64::MAX))),
            (json!({"$f64": "8000000000000000"}), Cell::f64(-0.0)),
            (json!({"$f32": "7fc00000"}), Cell::f32(f32::NAN)),
            (json!({"$num": "1.50"}), Cell::Number("1.50".to_owned())),
            (json!({"$dec": "-0.01"}), Cell::Decimal("-0.01".to_owned())),
            (json!({"$bytes": "00ff"}), Cell::Bytes(vec![0, 255])),
            (json!({"$date": -1}), Cell::Date(-1)),
            (json!({"$time": [5, "us"]}), Cell::Time(5, Unit::Micros)),
            (json!({"$ts": [i64::MIN, "ns", false]}), Cell::Timestamp(i64::MIN, Unit::Nanos, false)),
            (json!({"$duration": [1, 2, u32::MAX]}), Cell::Duration([1, 2, u32::MAX])),
            (json!({"$map": [["b", 1], ["a", null]]}), Cell::map([("a", Cell::Null), ("b", Cell::Int(1))])),
            (json!({"b": [true], "a": "x"}), {
                Cell::record([("a", Cell::text("x")), ("b", Cell::List(vec![Cell::Bool(true)]))])
            }),
        ];
        for (value, wanted) in read {
            assert_eq!(cell(value), wanted);
        }
        for wrong in [json!(1.5), json!({"$bytes": "0"}), json!({"$ts": [1, "us"]}), json!({"$what": 1})] {
            assert!(Cell::try_from(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_difference_names_the_place() {
        let ours = cell(json!({"a": {"b": [1, {"$num": "1.0"}]}, "c": null}));
        assert_eq!(ours.difference(&ours.clone()), None);
        let told = |other: Value| ours.difference(&cell(other)).unwrap();
        let differs = told(json!({"a": {"b": [1, {"$num": "1.00"}]}, "c": null}));
        assert!(differs.starts_with(".a.b[1]: expected Number"), "{differs}");
        assert!(told(json!({"a": {"b": [1]}, "c": null})).starts_with(".a.b: "));
        assert!(told(json!({"a": {"b": [1, {"$num": "1.0"}]}})).contains(r#"missing ["c"]"#));
        assert!(Cell::f64(0.0).difference(&Cell::f64(-0.0)).is_some());
        assert_eq!(Cell::f64(-0.0).difference(&Cell::Number("-0.0".to_owned())), None);
        assert!(Cell::f64(0.1).difference(&Cell::Number("0.1000000000000001".to_owned())).is_some());
        assert!(Cell::Decimal("1.50".to_owned()).difference(&Cell::Number("1.5".to_owned())).is_some());
        assert!(Cell::Map(Vec::new()).difference(&Cell::Record(Vec::new())).is_some());
    }
}
