//! Rows of a repair in memory, and the bytes of its objects.

use aqueduct_core::{
    Envelope, Offset, Poison, PoisonReason, Rejected, RepairBatch, RepairRow, RouteTable, StageError,
};
use bytes::Bytes;

use crate::compress::{Compression, Compressor, PIECE};
use crate::format::{Format, Row};
use crate::keys::KeyTemplate;

/// A row with what decides its object.
#[derive(Debug)]
pub(super) struct EncodedRow {
    pub(super) offset: Offset,
    route: String,
    /// With its terminator.
    bytes: Bytes,
    extension: String,
    content_type: String,
}

/// What becomes one object.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) route: String,
    pub(super) offsets: Vec<i64>,
    /// Not compressed.
    pub(super) rows: Bytes,
    /// Of the format alone.
    pub(super) extension: String,
    pub(super) content_type: String,
}

/// Encodes what can be rows. `extension` is the longest that a key may get.
pub(super) fn encode<T, F: Format<T>>(
    format: &F,
    keys: &KeyTemplate,
    extension: &str,
    batch: RepairBatch<'_, T>,
) -> (Vec<EncodedRow>, Vec<Rejected>) {
    let lane = batch.lane;
    let (mut rows, mut refused, mut routes) = (Vec::new(), Vec::new(), RouteTable::new());
    for RepairRow { record, path, value } in batch.rows {
        let offset = record.offset();
        if let Err(error) = keys.check_route(lane, path.as_str(), extension) {
            let poison = Poison::new(PoisonReason::InvalidRoute, error.to_string());
            refused.push(Rejected { offset, poison });
            continue;
        }
        let route = routes.intern(&path);
        let mut out = Vec::new();
        match format.encode(&Envelope { record: &record, route, path: &path, value }, &mut out) {
            Ok(row) => {
                if let Row::Shared(bytes) = row {
                    out.extend_from_slice(&bytes);
                }
                out.extend_from_slice(format.terminator());
                rows.push(EncodedRow {
                    offset,
                    route: path.as_str().to_owned(),
                    bytes: Bytes::from(out),
                    extension: format.extension().to_owned(),
                    content_type: format.content_type().to_owned(),
                });
            }
            Err(poison) => refused.push(Rejected { offset, poison }),
        }
    }
    (rows, refused)
}

/// One object for each route, in order of their first rows.
pub(super) fn plan(rows: &[&EncodedRow]) -> Vec<Plan> {
    let mut groups: Vec<(&EncodedRow, Vec<&EncodedRow>)> = Vec::new();
    for &row in rows {
        match groups.iter_mut().find(|(first, _)| first.route == row.route) {
            Some((_, group)) => group.push(row),
            None => groups.push((row, vec![row])),
        }
    }
    let plan = |(first, group): (&EncodedRow, Vec<&EncodedRow>)| Plan {
        route: first.route.clone(),
        offsets: group.iter().map(|row| row.offset.get()).collect(),
        rows: group.iter().flat_map(|row| row.bytes.iter().copied()).collect(),
        extension: first.extension.clone(),
        content_type: first.content_type.clone(),
    };
    groups.into_iter().map(plan).collect()
}

/// The object as it is stored.
pub(super) fn body(rows: Bytes, codec: Compression, level: i32) -> Result<Bytes, StageError> {
    let failed = |error| StageError::fatal("compress", error);
    let Some(mut compressor) = Compressor::new(codec, level).map_err(failed)? else { return Ok(rows) };
    let mut out = Vec::new();
    for piece in rows.chunks(PIECE) {
        let start = out.len();
        out.resize(start + codec.bound(piece.len()), 0);
        let room = out.get_mut(start..).unwrap_or_default();
        let written = compressor.piece(piece, room).map_err(failed)?;
        out.truncate(start + written);
    }
    Ok(Bytes::from(out))
}
