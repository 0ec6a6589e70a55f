//! Cells as text.

use std::borrow::Cow;
use std::sync::Arc;

use aqueduct_core::{Decimal, FieldValue, JsonText, ValueVisitor as _};
use memchr::{memchr2, memchr3};

use crate::columns::{CellWriter, Cells, Kind, Wide};
use crate::format::BuildError;

/// How cells and rows are spelled.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) delimiter: u8,
    pub(super) crlf: bool,
    pub(super) null: String,
}

impl Default for Style {
    fn default() -> Self {
        Self { delimiter: b',', crlf: false, null: String::new() }
    }
}

impl Style {
    pub(super) fn end_row(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.crlf { b"\r\n" } else { b"\n" });
    }
}

/// What files of a shape have in common.
pub(crate) struct FileSchema {
    pub(super) header: Vec<u8>,
    /// By node: its kind, and the first node that is not below it.
    pub(super) kinds: Vec<(Kind, usize)>,
    pub(super) style: Style,
}

/// A file that grows row by row.
pub(crate) struct CsvFile {
    schema: Arc<FileSchema>,
    /// The row at hand.
    row: Vec<u8>,
    /// The row has a cell already.
    begun: bool,
    headed: bool,
    json: Vec<u8>,
}

impl CsvFile {
    pub(super) fn new(schema: &Arc<FileSchema>) -> Self {
        Self { schema: Arc::clone(schema), row: Vec::new(), begun: false, headed: false, json: Vec::new() }
    }

    fn hand_out(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.headed, true) {
            out.extend_from_slice(&self.schema.header);
        }
        out.append(&mut self.row);
    }

    /// The delimiter, if a cell was before.
    fn next_cell(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            self.row.push(self.schema.style.delimiter);
        }
    }

    fn null_cell(&mut self) {
        self.next_cell();
        self.row.extend_from_slice(self.schema.style.null.as_bytes());
    }

    fn cell(&mut self, text: &[u8]) {
        self.next_cell();
        write_cell(text, &self.schema.style, &mut self.row);
    }

    /// The JSON text of a value, without quotes.
    fn show(&mut self, value: FieldValue<'_>) {
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        // It was tried when the row was encoded.
        JsonText::new(&mut json).scalar(value).ok();
        let text = json.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(&json);
        self.cell(text);
        self.json = json;
    }

    fn kind(&self, node: usize) -> Kind {
        self.schema.kinds.get(node).map_or(Kind::Null, |(kind, _)| *kind)
    }
}

/// Text, in quotes if it could be taken for something else.
pub(super) fn write_cell(text: &[u8], style: &Style, out: &mut Vec<u8>) {
    let is_plain = !text.is_empty()
        && text != style.null.as_bytes()
        && memchr3(style.delimiter, b'"', b'\n', text).is_none()
        && memchr2(b'\r', b'\n', text).is_none();
    if is_plain {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for (index, part) in text.split(|byte| *byte == b'"').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

impl CellWriter for CsvFile {
    fn end_row(&mut self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        if self.row.is_empty() {
            // Readers pass over empty lines.
            self.row.extend_from_slice(b"\"\"");
        }
        self.schema.style.end_row(&mut self.row);
        self.begun = false;
        // At once: what a chunk becomes is in memory only once.
        self.hand_out(out);
        Ok(())
    }

    fn end_chunk(&mut self, _out: &mut Vec<u8>) -> Result<(), BuildError> {
        Ok(())
    }

    fn finish(mut self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.hand_out(out);
        Ok(())
    }
}

impl Cells for CsvFile {
    fn null(&mut self, node: usize) {
        if self.kind(node) != Kind::Struct {
            return self.null_cell();
        }
        let end = self.schema.kinds.get(node).map_or(node, |(_, end)| *end);
        for below in node + 1..end {
            if self.kind(below) != Kind::Struct {
                self.null_cell();
            }
        }
    }

    fn boolean(&mut self, _node: usize, value: bool) {
        self.show(FieldValue::Bool(value));
    }

    fn integer(&mut self, node: usize, value: i64) {
        self.show(match self.kind(node) {
            Kind::Date => FieldValue::Date(i32::try_from(value).unwrap_or_default()),
            Kind::Time(unit) => FieldValue::Time { count: value, unit },
            Kind::Timestamp { unit, utc } => FieldValue::Timestamp { count: value, unit, utc },
            _ => FieldValue::I64(value),
        });
    }

    fn unsigned(&mut self, _node: usize, value: u64) {
        self.show(FieldValue::U64(value));
    }

    fn float(&mut self, _node: usize, value: f32) {
        self.show(FieldValue::F32(value));
    }

    fn double(&mut self, _node: usize, value: f64) {
        self.show(FieldValue::F64(value));
    }

    fn decimal(&mut self, node: usize, value: Wide) {
        let scale = match self.kind(node) {
            Kind::Decimal { scale, .. } => scale,
            _ => 0,
        };
        self.show(FieldValue::Decimal(Decimal::new(value.to_be_bytes().to_vec(), scale)));
    }

    fn text(&mut self, _node: usize, value: &[u8]) {
        self.cell(value);
    }

    fn symbol(&mut self, _node: usize, _index: u32, symbol: &[u8]) {
        self.cell(symbol);
    }

    fn bytes(&mut self, node: usize, value: &[u8]) {
        self.show(match (self.kind(node), value.try_into()) {
            (Kind::Uuid, Ok(uuid)) => FieldValue::Uuid(uuid),
            _ => FieldValue::Bytes(Cow::Borrowed(value)),
        });
    }

    fn duration(&mut self, _node: usize, months: u32, days: u32, millis: u32) {
        self.show(FieldValue::Duration { months, days, millis });
    }
}
