//! What a column holds: the one list of BigQuery's types.

use prost_types::field_descriptor_proto::Type;

use super::Field;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldType {
    /// `STRING`
    String,
    /// `BYTES`
    Bytes,
    /// `INTEGER`
    Int64,
    /// `FLOAT`
    Float64,
    /// `BOOLEAN`
    Bool,
    /// `TIMESTAMP`
    Timestamp,
    /// `DATE`
    Date,
    /// `TIME`
    Time,
    /// `DATETIME`
    DateTime,
    /// `NUMERIC`: 29 digits before the point and 9 behind it.
    Numeric,
    /// `BIGNUMERIC`: 38 digits before the point and 38 behind it.
    BigNumeric,
    /// `JSON`
    Json,
    /// `GEOGRAPHY`, as WKT or `GeoJSON` text.
    Geography,
    /// `INTERVAL`, as a literal.
    Interval,
    /// `RANGE` of dates, datetimes or timestamps.
    Range(RangeOf),
    /// `RECORD`
    Record(Vec<Field>),
}

/// What a range is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOf {
    /// `DATE`
    Date,
    /// `DATETIME`
    DateTime,
    /// `TIMESTAMP`
    Timestamp,
}

impl RangeOf {
    pub(crate) fn element(self) -> FieldType {
        match self {
            Self::Date => FieldType::Date,
            Self::DateTime => FieldType::DateTime,
            Self::Timestamp => FieldType::Timestamp,
        }
    }
}

impl FieldType {
    /// Every type; those that have parts have none here.
    pub(crate) const ALL: [Self; 16] = [
        Self::String,
        Self::Bytes,
        Self::Int64,
        Self::Float64,
        Self::Bool,
        Self::Timestamp,
        Self::Date,
        Self::Time,
        Self::DateTime,
        Self::Numeric,
        Self::BigNumeric,
        Self::Json,
        Self::Geography,
        Self::Interval,
        Self::Range(RangeOf::Date),
        Self::Record(Vec::new()),
    ];

    /// As the REST interface spells it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Int64 => "INTEGER",
            Self::Float64 => "FLOAT",
            Self::Bool => "BOOLEAN",
            Self::Timestamp => "TIMESTAMP",
            Self::Date => "DATE",
            Self::Time => "TIME",
            Self::DateTime => "DATETIME",
            Self::Numeric => "NUMERIC",
            Self::BigNumeric => "BIGNUMERIC",
            Self::Json => "JSON",
            Self::Geography => "GEOGRAPHY",
            Self::Interval => "INTERVAL",
            Self::Range(_) => "RANGE",
            Self::Record(_) => "RECORD",
        }
    }

    /// As SQL spells it.
    pub(crate) fn sql_name(&self) -> &'static str {
        match self {
            Self::Int64 => "INT64",
            Self::Float64 => "FLOAT64",
            Self::Bool => "BOOL",
            Self::Record(_) => "STRUCT",
            other => other.name(),
        }
    }

    /// The type of this name, in any spelling and any case, without its parts.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = match name.to_ascii_uppercase().as_str() {
            "DECIMAL" => "NUMERIC",
            "BIGDECIMAL" => "BIGNUMERIC",
            _ => name,
        };
        let is = |spelling: &str| spelling.eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(|kind| is(kind.name()) || is(kind.sql_name()))
    }

    /// The types of <https://cloud.google.com/bigquery/docs/supported-data-types>; where there is a choice, the exact one.
    pub(crate) fn wire_type(&self) -> Type {
        match self {
            Self::Bytes => Type::Bytes,
            Self::Int64 | Self::Timestamp => Type::Int64,
            Self::Date => Type::Int32,
            Self::Float64 => Type::Double,
            Self::Bool => Type::Bool,
            Self::Range(_) | Self::Record(_) => Type::Message,
            // The others are written as literals.
            _ => Type::String,
        }
    }

    /// Digits before and behind the point that every value of a decimal type may have.
    pub(crate) fn digits(&self) -> Option<(u64, u64)> {
        match self {
            Self::Numeric => Some((29, 9)),
            Self::BigNumeric => Some((38, 38)),
            _ => None,
        }
    }

    /// The same without its parts, which takes no memory.
    pub(crate) fn bare(&self) -> Self {
        match self {
            Self::Record(_) => Self::Record(Vec::new()),
            other => other.clone(),
        }
    }

    /// Whether values of it are messages of their own.
    pub(crate) fn is_message(&self) -> bool {
        self.wire_type() == Type::Message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        for kind in FieldType::ALL {
            for name in [kind.name(), kind.sql_name(), &kind.name().to_ascii_lowercase()] {
                assert_eq!(FieldType::named(name), Some(kind.clone()), "{name}");
            }
        }
        assert_eq!(FieldType::named("decimal"), Some(FieldType::Numeric));
        assert_eq!(FieldType::named("BigDecimal"), Some(FieldType::BigNumeric));
        assert_eq!(FieldType::named("ARRAY"), None);
    }
}
