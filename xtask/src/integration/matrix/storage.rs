//! Formats and what they are compressed with: how values are stored, and who reads them back.

use std::sync::Arc;

use aqueduct::files::{
    AvroCompression, AvroFiles, Csv, Delimited, Format, JsonArray, Parquet, ParquetCompression,
};
use aqueduct::{BytesRow, Compression, Fields, JsonLines, JsonRow, StructuredValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xtask::readers::{Around, Cell, Reader};

use super::calendar::{Moment, date_text};
use super::columns::Columns;
use super::encode::Encoding;
use super::encode::beside::Stands;

/// A format with one compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) format: Kind,
    /// The compression, by the name that a reader finds.
    pub(super) codec: &'static str,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    JsonLines,
    /// One array a file.
    JsonArray,
    Parquet,
    /// Avro object containers.
    Avro,
    Csv,
    /// Values that are bytes, a newline after each.
    Delimited,
    /// Values that are bytes, one after the other.
    Raw,
}

/// What a format takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Values with parts.
    Structured,
    /// Bytes.
    Bytes,
}

const AROUND: [&str; 3] = ["none", "gzip", "zstd"];

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::JsonLines, Self::JsonArray, Self::Parquet, Self::Avro, Self::Csv, Self::Delimited, Self::Raw];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "json-lines",
            Self::JsonArray => "json-array",
            Self::Parquet => "parquet",
            Self::Avro => "avro",
            Self::Csv => "csv",
            Self::Delimited => "delimited",
            Self::Raw => "raw",
        }
    }

    pub(super) fn takes(self) -> Takes {
        match self {
            Self::JsonLines | Self::JsonArray | Self::Parquet | Self::Avro | Self::Csv => Takes::Structured,
            Self::Delimited | Self::Raw => Takes::Bytes,
        }
    }

    pub(super) fn codecs(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &["uncompressed", "snappy", "gzip", "zstd"],
            Self::Avro => &["null", "deflate", "snappy", "zstandard"],
            Self::JsonLines | Self::JsonArray | Self::Csv | Self::Delimited | Self::Raw => &AROUND,
        }
    }

    /// Everyone who can read it.
    pub(super) fn readers(self) -> &'static [Reader] {
        match self {
            Self::JsonLines => &[Reader::JsonL],
            Self::JsonArray => &[Reader::Json],
            Self::Parquet => &[Reader::Arrow, Reader::DuckDb],
            Self::Avro => &[Reader::FastAvro],
            Self::Csv => &[Reader::Csv],
            Self::Delimited => &[Reader::Lines],
            Self::Raw => &[Reader::Raw],
        }
    }

    /// The value in a file, where a record of `encoding` that stands there has `value`.
    pub(super) fn stores(self, encoding: &Encoding, value: &Cell, stands: Stands<'_>) -> Cell {
        let is_json = matches!(self, Self::JsonLines | Self::JsonArray);
        let row = if is_json { encoding.row(value) } else { (encoding.carries)(value) };
        match (encoding.beside, self) {
            // Rows with columns have members: a value without any is the one of that name.
            (None, Self::Parquet | Self::Csv) if !encoding.has_fields => Cell::record([("value", row)]),
            (None, _) => row,
            (Some(spelling), _) if is_json => as_json(&spelling.beside(row, stands)),
            (Some(spelling), _) => spelling.beside(row, stands),
        }
    }

    /// Where what `reader` has found is not what is `expected` to be stored; none if it is.
    pub(super) fn difference(
        self,
        encoding: &Encoding,
        reader: Reader,
        expected: &Cell,
        found: &Cell,
    ) -> Option<String> {
        let inferred = !encoding.has_schema;
        let columns = Columns { inferred, name: str::to_owned };
        match self {
            Self::Parquet => columns.difference(&reader.sees(expected.clone()), found),
            // Its own schemas keep their names; what is inferred has to be made names of Avro.
            Self::Avro if inferred => Columns { name: avro_name, ..columns }.difference(expected, found),
            Self::Avro => columns.difference(expected, found),
            Self::Csv => columns.csv_difference(expected, found),
            Self::JsonLines | Self::JsonArray | Self::Delimited | Self::Raw => expected.difference(found),
        }
    }

    /// Whether it compresses inside of its files.
    fn compresses(self) -> bool {
        matches!(self, Self::Parquet | Self::Avro)
    }
}

impl Storage {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Kind::ALL
            .into_iter()
            .flat_map(|format| format.codecs().iter().map(move |codec| Self { format, codec }))
    }

    pub(super) fn name(self) -> String {
        format!("{}-{}", self.format.name(), self.codec)
    }

    /// What is around a whole file.
    pub(super) fn around(self) -> Around {
        match self.codec {
            _ if self.format.compresses() => Around::None,
            "gzip" => Around::Gzip,
            "zstd" => Around::Zstd,
            _ => Around::None,
        }
    }

    /// The same as the sink is told.
    pub(super) fn compression(self) -> Compression {
        match self.around() {
            Around::None => Compression::None,
            Around::Gzip => Compression::Gzip,
            Around::Zstd => Compression::Zstd,
        }
    }

    /// How keys end.
    pub(super) fn extension(self) -> String {
        let format = match self.format {
            Kind::JsonLines | Kind::JsonArray => ".json",
            Kind::Parquet => match self.codec {
                "snappy" => ".snappy.parquet",
                "gzip" => ".gz.parquet",
                "zstd" => ".zstd.parquet",
                _ => ".parquet",
            },
            Kind::Avro => ".avro",
            Kind::Csv => ".csv",
            Kind::Delimited | Kind::Raw => ".bin",
        };
        let around = match self.around() {
            Around::None => "",
            Around::Gzip => ".gz",
            Around::Zstd => ".zst",
        };
        format!("{format}{around}")
    }

    /// The format, for values with parts; none if it takes others.
    pub(super) fn structured<T>(self) -> Option<Arc<dyn Format<T>>>
    where
        T: StructuredValue + JsonRow + Fields + Send + 'static,
    {
        match self.format {
            Kind::JsonLines => Some(Arc::new(JsonLines::new())),
            Kind::JsonArray => Some(Arc::new(JsonArray::new())),
            Kind::Parquet => {
                let compression = match self.codec {
                    "snappy" => ParquetCompression::Snappy,
                    "gzip" => ParquetCompression::Gzip,
                    "zstd" => ParquetCompression::Zstd { level: 3 },
                    _ => ParquetCompression::None,
                };
                Some(Arc::new(Parquet::new().with_compression(compression)))
            }
            Kind::Avro => {
                let compression = match self.codec {
                    "deflate" => AvroCompression::Deflate,
                    "snappy" => AvroCompression::Snappy,
                    "zstandard" => AvroCompression::Zstd { level: 3 },
                    _ => AvroCompression::None,
                };
                Some(Arc::new(AvroFiles::new().with_compression(compression)))
            }
            Kind::Csv => Some(Arc::new(Csv::new())),
            Kind::Delimited | Kind::Raw => None,
        }
    }

    /// The format, for values that are bytes; none if it takes others.
    pub(super) fn bytes<T: BytesRow + Send + 'static>(self) -> Option<Arc<dyn Format<T>>> {
        match self.format {
            Kind::Delimited => Some(Arc::new(Delimited::lines())),
            Kind::Raw => Some(Arc::new(aqueduct::files::RawBytes::new())),
            Kind::JsonLines | Kind::JsonArray | Kind::Parquet | Kind::Avro | Kind::Csv => None,
        }
    }
}

/// A member's name where Avro would not take it.
fn avro_name(name: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() { it } else { '_' };
    if name.is_empty() { "_".to_owned() } else { name.chars().map(letter).collect() }
}

/// A value as JSON has it: what JSON has no kind for is text.
pub(super) fn as_json(value: &Cell) -> Cell {
    match value {
        Cell::Bytes(bytes) => Cell::text(STANDARD.encode(bytes)),
        Cell::Uuid(text) => Cell::text(text),
        Cell::Date(days) => Cell::text(date_text(*days)),
        Cell::Time(count, unit) => Cell::text(Moment::at(*count, *unit).time_text()),
        Cell::Timestamp(count, unit, utc) => {
            Cell::text(format!("{}{}", Moment::at(*count, *unit).text(), if *utc { "Z" } else { "" }))
        }
        Cell::Duration([months, days, millis]) => {
            Cell::text(format!("P{months}M{days}DT{}.{:03}S", millis / 1_000, millis % 1_000))
        }
        Cell::List(items) => Cell::List(items.iter().map(as_json).collect()),
        Cell::Map(members) | Cell::Record(members) => {
            Cell::record(members.iter().map(|(name, value)| (name.clone(), as_json(value))))
        }
        Cell::F64(bits) if !f64::from_bits(*bits).is_finite() => {
            Cell::text(not_finite(f64::from_bits(*bits)))
        }
        Cell::F32(bits) if !f32::from_bits(*bits).is_finite() => {
            Cell::text(not_finite(f32::from_bits(*bits).into()))
        }
        other => other.clone(),
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value < 0.0 {
        "-Infinity"
    } else {
        "Infinity"
    }
}
