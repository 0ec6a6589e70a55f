//! Keys and headers of records, in objects beside those of their values.
//!
//! Line N of such an object belongs to row N of the object with the values: they hold the same records in the same order, and
//! begin anew at the same record.

use aqueduct_core::{Envelope, Fingerprint, Poison, PoisonReason};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::format::{Encoded, Encoder, RowEncoder, Splits};

/// How the keys of records are stored beside their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordKeys(Keys);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Keys {
    Json,
    Delimited(Bytes),
}

impl RecordKeys {
    /// One JSON text a line, `.keys.json`: a string if the key is UTF-8, else `{"base64":"…"}`, and `null` for a record without
    /// a key.
    pub fn json() -> Self {
        Self(Keys::Json)
    }

    /// The keys' bytes, a line feed after each: `.keys.bin`. See [`delimited_by`](Self::delimited_by).
    pub fn lines() -> Self {
        Self::delimited_by("\n")
    }

    /// The keys' bytes, `delimiter` after each: `.keys.bin`.
    ///
    /// A key that contains the delimiter would put all lines after it beside the wrong values, so its record is a poison; so is
    /// that of a key whose end and the delimiter after it make an earlier one. A record without a key and one whose key is empty look alike.
    pub fn delimited_by(delimiter: impl Into<Bytes>) -> Self {
        Self(Keys::Delimited(delimiter.into()))
    }

    /// Whether keys could not be told apart.
    pub(crate) fn is_without_delimiter(&self) -> bool {
        matches!(&self.0, Keys::Delimited(delimiter) if delimiter.is_empty())
    }

    /// What it adds to a key instead of the format's extension.
    pub(crate) fn extension(&self) -> &'static str {
        match self.0 {
            Keys::Json => ".keys.json",
            Keys::Delimited(_) => ".keys.bin",
        }
    }

    pub(crate) fn content_type(&self) -> &'static str {
        match self.0 {
            Keys::Json => JSON_LINES,
            Keys::Delimited(_) => "application/octet-stream",
        }
    }

    pub(crate) fn fingerprint(&self, parts: &mut Fingerprint) {
        match &self.0 {
            Keys::Json => parts.put("record-keys", "json/1"),
            Keys::Delimited(delimiter) => {
                parts.put("record-keys", "delimited/1");
                parts.put("record-keys", format_args!("{delimiter:?}"));
            }
        }
    }

    pub(crate) fn encoder<T>(&self) -> Encoder<T> {
        match &self.0 {
            Keys::Json => Encoder::joined(JsonKeys, "\n"),
            Keys::Delimited(delimiter) => {
                Encoder::joined(DelimitedKeys(Splits::new(delimiter)), delimiter.clone())
            }
        }
    }
}

const JSON_LINES: &str = "application/x-ndjson";

struct JsonKeys;

impl<T> RowEncoder<T> for JsonKeys {
    fn encode(&mut self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        let Some(key) = envelope.record.key() else {
            out.extend_from_slice(b"null");
            return Ok(Encoded::written());
        };
        if let Ok(text) = std::str::from_utf8(key) {
            put_string(text, out)?;
        } else {
            out.extend_from_slice(b"{\"base64\":");
            put_base64(key, out);
            out.push(b'}');
        }
        Ok(Encoded::written())
    }
}

struct DelimitedKeys(Splits);

impl<T> RowEncoder<T> for DelimitedKeys {
    fn encode(&mut self, envelope: &Envelope<'_, T>, _out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        let key = envelope.record.key_bytes().unwrap_or_default();
        if let Some(at) = self.0.find(&key) {
            let detail = format!(
                "the key holds the delimiter of keys at byte {at}, or begins it there; choose another delimiter, or JSON"
            );
            return Err(Poison::new(PoisonReason::Malformed, detail));
        }
        Ok(Encoded::shared(key))
    }
}

/// The headers of records beside their values: one JSON array a line.
pub(crate) struct RecordHeaders;

impl RecordHeaders {
    pub(crate) const EXTENSION: &str = ".headers.json";
    pub(crate) const CONTENT_TYPE: &str = JSON_LINES;

    pub(crate) fn fingerprint(parts: &mut Fingerprint) {
        parts.put("record-headers", "json/1");
    }

    pub(crate) fn encoder<T>() -> Encoder<T> {
        Encoder::joined(Self, "\n")
    }
}

impl<T> RowEncoder<T> for RecordHeaders {
    fn encode(&mut self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        out.push(b'[');
        for (index, (name, value)) in envelope.record.headers().enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"key\":" } else { b",{\"key\":" });
            put_string(name, out)?;
            match value.map(|value| (value, std::str::from_utf8(value))) {
                None => out.extend_from_slice(b",\"value\":null"),
                Some((_, Ok(text))) => {
                    out.extend_from_slice(b",\"value\":");
                    put_string(text, out)?;
                }
                Some((bytes, Err(_))) => {
                    out.extend_from_slice(b",\"base64\":");
                    put_base64(bytes, out);
                }
            }
            out.push(b'}');
        }
        out.push(b']');
        Ok(Encoded::written())
    }
}

fn put_string(text: &str, out: &mut Vec<u8>) -> Result<(), Poison> {
    // A vector takes everything.
    serde_json::to_writer(out, text).map_err(|error| Poison::new(PoisonReason::Malformed, error.to_string()))
}

/// Appends `"…"`, without another allocation.
fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    // Four characters for three bytes, the last ones filled up.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = STANDARD.encode_slice(bytes, room).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{BatchBuilder, Offset, Permit, RoutePath, RouteTable, Timestamp, TopicPartition};

    use super::*;

    type Header<'a> = (&'a str, Option<&'a [u8]>);

    fn row(mut encoder: Encoder<()>, key: Option<&[u8]>, headers: &[Header<'_>]) -> Result<Vec<u8>, Poison> {
        let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
        builder.push(Offset::ZERO, Timestamp::None, key, Some(b"v"), headers.iter().copied());
        let batch = builder.build(Permit::unlimited());
        let (record, path) = (batch.get(0).unwrap(), RoutePath::default());
        let route = RouteTable::new().intern(&path);
        let envelope = Envelope { record: &record, route, path: &path, value: () };
        let mut out = b"before".to_vec();
        Ok(match encoder.rows().encode(&envelope, &mut out)?.row {
            crate::Row::Shared(bytes) => bytes.to_vec(),
            crate::Row::Written => out.split_off(6),
        })
    }

    #[test]
    fn keys_are_golden_lines() {
        let json = |key| String::from_utf8(row(RecordKeys::json().encoder(), key, &[]).unwrap()).unwrap();
        assert_eq!(json(None), "null");
        assert_eq!(json(Some(b"")), r#""""#);
        assert_eq!(json(Some(b"null")), r#""null""#);
        assert_eq!(json(Some("a\"b\n\u{1}ü".as_bytes())), r#""a\"b\n\u0001ü""#);
        assert_eq!(json(Some(b"\xff\x00")), r#"{"base64":"/wA="}"#);
        let lines = |key| row(RecordKeys::lines().encoder(), key, &[]);
        assert_eq!(lines(None).unwrap(), b"");
        assert_eq!(lines(Some(b"\xff\r\0")).unwrap(), b"\xff\r\0");
        let poison = lines(Some(b"one\ntwo")).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::Malformed);
        assert!(poison.detail().contains("at byte 3") && !poison.detail().contains("one"), "{poison}");
        let bars = |key| row(RecordKeys::delimited_by("||").encoder(), Some(key), &[]);
        assert_eq!(bars(b"a|b").unwrap(), b"a|b");
        assert!(bars(b"a|").unwrap_err().detail().contains("at byte 1"));
    }

    #[test]
    fn headers_are_golden_lines() {
        let line = |headers: &[Header<'_>]| {
            String::from_utf8(row(RecordHeaders::encoder(), None, headers).unwrap()).unwrap()
        };
        assert_eq!(line(&[]), "[]");
        assert_eq!(line(&[("a", Some(b"1"))]), r#"[{"key":"a","value":"1"}]"#);
        let all: [Header<'_>; 4] =
            [("a", None), ("a", Some(b"")), ("b\"", Some(b"x\ny")), ("c", Some(b"\xfe"))];
        assert_eq!(
            line(&all),
            r#"[{"key":"a","value":null},{"key":"a","value":""},{"key":"b\"","value":"x\ny"},{"key":"c","base64":"/g=="}]"#
        );
    }

    #[test]
    fn base64_of_every_length_reads_back() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|i| 0xf0 | i).collect();
            let mut out = b"x".to_vec();
            put_base64(&bytes, &mut out);
            let text = out.strip_prefix(b"x\"").and_then(|out| out.strip_suffix(b"\"")).unwrap();
            assert_eq!(STANDARD.decode(text).unwrap(), bytes);
        }
    }
}
