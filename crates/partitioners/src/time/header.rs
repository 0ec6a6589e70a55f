//! The time in a header.

use aqueduct_core::{Fingerprint, Poison, PoisonReason, Record, RoutePath};

use super::extract::{Extract, invalid};
use super::spelling::{Spelling, TimeFormat};
use crate::error::LayoutError;

/// A header of the record, in a stated unit and encoding.
///
/// Where a name repeats, the last header of that name counts, as in Kafka's own `lastHeader`. Text and eight bytes are
/// not told apart by looking: eight digits are both.
///
/// # Errors
/// A poison: a header that is absent or null ([`MissingField`](PoisonReason::MissingField)) and what is no time in the
/// stated format and encoding ([`InvalidTimestamp`](PoisonReason::InvalidTimestamp)).
///
/// ```
/// use aqueduct_partitioners::{ByTime, HeaderTime, TimeFormat};
///
/// let by_text = ByTime::hourly("UTC")?.header("sent-at", TimeFormat::Iso8601);
/// // What `LongSerializer` and `ByteBuffer.putLong` write:
/// let by_long = ByTime::hourly("UTC")?.extract(HeaderTime::big_endian("sent-at", TimeFormat::Millis)?);
/// # Ok::<(), aqueduct_partitioners::LayoutError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeaderTime {
    name: String,
    spelling: Spelling,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Text,
    BigEndian,
}

impl HeaderTime {
    /// The header `name`, which holds text: a decimal number of units, or ISO-8601.
    pub fn text(name: impl Into<String>, format: TimeFormat) -> Self {
        Self { name: name.into(), spelling: Spelling::new(format), encoding: Encoding::Text }
    }

    /// The header `name`, which holds a signed number of eight bytes, the most significant first.
    ///
    /// # Errors
    /// If the format is [`TimeFormat::Iso8601`], which is no number.
    pub fn big_endian(name: impl Into<String>, format: TimeFormat) -> Result<Self, LayoutError> {
        let name = name.into();
        if format == TimeFormat::Iso8601 {
            return Err(LayoutError::TextInBytes { header: name });
        }
        Ok(Self { name, spelling: Spelling::new(format), encoding: Encoding::BigEndian })
    }

    /// Reads [`TimeFormat::Iso8601`] text without an offset as local time of `zone`. Of two equal local times the
    /// earlier counts; one that the clocks skipped moves ahead.
    ///
    /// # Errors
    /// If the zone is unknown.
    pub fn without_offset_in(mut self, zone: &str) -> Result<Self, LayoutError> {
        self.spelling = self.spelling.without_offset_in(zone)?;
        Ok(self)
    }

    #[cold]
    fn missing(&self, what: &str) -> Poison {
        Poison::new(PoisonReason::MissingField, format!("header {} {what}", self.name))
    }
}

impl<T: ?Sized> Extract<T> for HeaderTime {
    fn millis(&self, record: &Record<'_>, _value: &T, _path: &RoutePath) -> Result<i64, Poison> {
        let named = record.headers().filter(|(name, _)| *name == self.name);
        let Some((_, value)) = named.last() else { return Err(self.missing("is absent")) };
        let Some(bytes) = value else { return Err(self.missing("is null")) };
        let ms = match self.encoding {
            Encoding::Text => match std::str::from_utf8(bytes) {
                Ok(text) => self.spelling.text(text),
                Err(_) => Err("is not utf-8; `HeaderTime::big_endian` reads eight bytes"),
            },
            Encoding::BigEndian => match <[u8; 8]>::try_from(bytes) {
                Ok(bytes) => self.spelling.whole(i64::from_be_bytes(bytes)),
                Err(_) => Err("has not eight bytes; `HeaderTime::text` reads text"),
            },
        };
        ms.map_err(|what| {
            invalid(format!("header {} {what} (format: {})", self.name, self.spelling.format().name()))
        })
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let (name, format, encoding) = (&self.name, self.spelling.format().name(), self.encoding.name());
        let local = self.spelling.local_name();
        parts.put("partitioner", format_args!("header-time/1 {name:?} {encoding} {format} local={local:?}"));
    }
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::BigEndian => "big-endian",
        }
    }
}

#[cfg(test)]
mod tests;
