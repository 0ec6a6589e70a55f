//! Rows of a repair in memory, and the bytes of its objects.

use std::sync::Arc;

use aqueduct_core::{
    Envelope, Offset, Poison, PoisonReason, Rejected, RepairRow, RouteTable, StageError, TopicPartition,
};
use bytes::Bytes;

use crate::beside::RecordHeaders;
use crate::compress::{Compression, Compressor, PIECE};
use crate::format::{
    BuildError, Encoded, Encoder, FRAME, FileBuilder, FileOutline, Format, ROW_MAX, Row, Rows, frame,
    whole_rows,
};
use crate::sink::ObjectOptions;

/// One of the objects that records become: of their values, and of keys or headers beside them.
#[derive(Clone)]
pub(super) struct Kind {
    /// Of the format alone.
    pub(super) extension: String,
    pub(super) content_type: String,
    builder: Option<Arc<dyn FileBuilder>>,
}

/// What the records of a batch are in each kind of object.
pub(super) struct EncodedRows {
    pub(super) kinds: Vec<Kind>,
    pub(super) rows: Vec<EncodedRow>,
    pub(super) refused: Vec<Rejected>,
}

/// A record with what decides its objects.
pub(super) struct EncodedRow {
    pub(super) offset: Offset,
    route: String,
    /// The shape in each kind.
    shapes: Vec<u32>,
    /// The row in each kind, framed as in a spool.
    framed: Vec<Bytes>,
}

/// What becomes one object.
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) route: String,
    pub(super) offsets: Vec<i64>,
    /// Not compressed, and no file yet.
    pub(super) rows: Bytes,
    shape: u32,
    row_max: usize,
}

/// The encoders of everything a record becomes, as a sink of these options has them, with extensions and media types.
fn encoders<T: 'static, F: Format<T>>(
    format: &F,
    options: &ObjectOptions,
) -> Vec<(Encoder<T>, String, String)> {
    let kind = |encoder, extension: &str, content: &str| (encoder, extension.to_owned(), content.to_owned());
    let mut encoders = vec![kind(format.encoder(), format.extension(), format.content_type())];
    if let Some(keys) = &options.record_keys {
        encoders.push(kind(keys.encoder(), keys.extension(), keys.content_type()));
    }
    if options.record_headers {
        encoders.push(kind(RecordHeaders::encoder(), RecordHeaders::EXTENSION, RecordHeaders::CONTENT_TYPE));
    }
    encoders
}

/// Encodes what can be rows, and gives those back. `suffix` makes the end of a key, as long as it can get, of an extension.
///
/// Encoders of columns number names, and infer schemas, by all that they see: only the same rows are the same bytes.
pub(super) fn encode<'a, T: 'static, F: Format<T>>(
    format: &F,
    options: &ObjectOptions,
    suffix: impl Fn(&str) -> String,
    lane: &TopicPartition,
    given: Vec<RepairRow<'a, T>>,
) -> Result<(EncodedRows, Vec<RepairRow<'a, T>>), StageError> {
    let mut encoders = encoders(format, options);
    let longest = encoders.iter().map(|(_, extension, _)| suffix(extension)).max_by_key(String::len);
    let longest = longest.unwrap_or_default();
    let named = options.keys.check_lane(lane, &longest);
    named.map_err(|error| StageError::fatal("repair", error))?;
    let (mut rows, mut kept, mut refused, mut routes) =
        (Vec::new(), Vec::new(), Vec::new(), RouteTable::new());
    for RepairRow { record, path, value } in given {
        let offset = record.offset();
        let envelope = Envelope { record: &record, route: routes.intern(&path), path: &path, value };
        let fits = options.keys.check_route(lane, path.as_str(), &longest);
        let encoded = fits
            .map_err(|error| Poison::new(PoisonReason::InvalidRoute, error.to_string()))
            .and_then(|()| encoders.iter_mut().map(|(encoder, ..)| one(encoder, &envelope)).collect());
        let value = envelope.value;
        match encoded {
            Ok(encoded) => {
                let (shapes, framed) = Vec::<(u32, Bytes)>::into_iter(encoded).unzip();
                rows.push(EncodedRow { offset, route: path.as_str().to_owned(), shapes, framed });
                kept.push(RepairRow { record, path, value });
            }
            Err(poison) => refused.push(Rejected { offset, poison }),
        }
    }
    let kinds = encoders.into_iter().map(|(encoder, extension, content_type)| {
        let builder = match encoder {
            Encoder::Joined { .. } => None,
            Encoder::Built(mut rows) => Some(rows.finish()),
        };
        Kind { extension, content_type, builder }
    });
    Ok((EncodedRows { kinds: kinds.collect(), rows, refused }, kept))
}

/// The shape of one row, and the row as a spool would hold it.
fn one<T>(encoder: &mut Encoder<T>, envelope: &Envelope<'_, T>) -> Result<(u32, Bytes), Poison> {
    let mut out = Vec::new();
    let Encoded { row, shape } = encoder.rows().encode(envelope, &mut out)?;
    let row = match row {
        Row::Shared(bytes) => bytes,
        Row::Written => Bytes::from(out),
    };
    if row.len() > ROW_MAX {
        let detail = format!("a row of {} bytes, the limit is {ROW_MAX}", row.len());
        return Err(Poison::new(PoisonReason::TooLarge, detail));
    }
    let mut framed = Vec::with_capacity(row.len() + FRAME);
    match encoder {
        Encoder::Joined { terminator, .. } => {
            framed.extend_from_slice(&row);
            framed.extend_from_slice(terminator);
        }
        Encoder::Built(_) => frame(&row, &mut framed),
    }
    Ok((shape, Bytes::from(framed)))
}

/// The objects of these rows: of each route and shape one of each kind, in order of their first rows.
pub(super) fn plan(kinds: &[Kind], rows: &[EncodedRow]) -> Vec<Plan> {
    let mut groups: Vec<(&EncodedRow, Vec<&EncodedRow>)> = Vec::new();
    for row in rows {
        let of = |first: &EncodedRow| first.route == row.route && first.shapes == row.shapes;
        match groups.iter_mut().find(|(first, _)| of(first)) {
            Some((_, group)) => group.push(row),
            None => groups.push((row, vec![row])),
        }
    }
    let mut plans = Vec::new();
    for (first, group) in groups {
        for (index, (kind, shape)) in kinds.iter().zip(&first.shapes).enumerate() {
            let of_kind = || group.iter().filter_map(|row| row.framed.get(index));
            plans.push(Plan {
                kind: kind.clone(),
                route: first.route.clone(),
                offsets: group.iter().map(|row| row.offset.get()).collect(),
                rows: of_kind().flat_map(|row| row.iter().copied()).collect(),
                shape: *shape,
                row_max: of_kind().map(Bytes::len).max().unwrap_or_default(),
            });
        }
    }
    plans
}

impl Plan {
    /// The object as it is stored.
    pub(super) fn body(self, codec: Compression, level: i32) -> Result<Bytes, StageError> {
        let file = match &self.kind.builder {
            None => self.rows,
            Some(builder) => {
                let outline = FileOutline::new(
                    self.shape,
                    self.offsets.len() as u64,
                    self.rows.len() as u64,
                    self.row_max,
                );
                build(&**builder, &outline, &self.rows)
                    .map_err(|error| StageError::fatal("build file", error))?
            }
        };
        let failed = |error| StageError::fatal("compress", error);
        let Some(mut compressor) = Compressor::new(codec, level).map_err(failed)? else { return Ok(file) };
        let mut out = Vec::new();
        for piece in file.chunks(PIECE) {
            let start = out.len();
            out.resize(start + codec.bound(piece.len()), 0);
            let room = out.get_mut(start..).unwrap_or_default();
            let written = compressor.piece(piece, room).map_err(failed)?;
            out.truncate(start + written);
        }
        Ok(Bytes::from(out))
    }
}

fn build(builder: &dyn FileBuilder, outline: &FileOutline, rows: &[u8]) -> Result<Bytes, BuildError> {
    let mut file = builder.open(outline)?;
    let (mut out, mut rest) = (Vec::new(), rows);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(match whole_rows(rest, outline.chunk_bytes()) {
            // Not a row in it: the end of a damaged text, which the caller never has.
            0 => rest.len(),
            whole => whole,
        });
        file.write(Rows::new(chunk), &mut out)?;
        rest = after;
    }
    file.finish(&mut out)?;
    Ok(Bytes::from(out))
}
