//! One Avro file while it is written.

use std::io;
use std::sync::Arc;

use libdeflater::{CompressionLvl, Compressor as Deflate};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::{AvroCompression, Form, Layout};
use crate::columns::{CellWriter, Cells, Plan, Wide};
use crate::compress::Compression;
use crate::format::{BuildError, FileOutline};

/// What files of a shape have in common.
pub(crate) struct FileSchema {
    pub(super) text: String,
    pub(super) layout: Vec<Layout>,
    pub(super) compression: AvroCompression,
}

/// A file that grows block by block.
pub(crate) struct AvroFile {
    schema: Arc<FileSchema>,
    codec: Codec,
    block: Vec<u8>,
    rows: u64,
    /// Once the head is written.
    marker: Option<[u8; 16]>,
}

enum Codec {
    None,
    Deflate(Box<Deflate>),
    Snappy(Box<snap::raw::Encoder>),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// A block ends with the row that brings it here, in bytes before compression.
const BLOCK_BYTES: usize = 64 << 10;

impl AvroFile {
    pub(super) fn new(schema: &Arc<FileSchema>) -> io::Result<Self> {
        let codec = match schema.compression {
            AvroCompression::None => Codec::None,
            AvroCompression::Deflate => Codec::Deflate(Box::new(Deflate::new(CompressionLvl::default()))),
            AvroCompression::Snappy => Codec::Snappy(Box::new(snap::raw::Encoder::new())),
            AvroCompression::Zstd { level } => Codec::Zstd(zstd::bulk::Compressor::new(level.clamp(1, 22))?),
        };
        Ok(Self { schema: Arc::clone(schema), codec, block: Vec::new(), rows: 0, marker: None })
    }

    /// Head and marker, before the first block.
    fn begin(&mut self, out: &mut Vec<u8>) -> [u8; 16] {
        if let Some(marker) = self.marker {
            return marker;
        }
        let text = self.schema.text.as_bytes();
        let codec = match self.codec {
            Codec::None => "null",
            Codec::Deflate(_) => "deflate",
            Codec::Snappy(_) => "snappy",
            Codec::Zstd(_) => "zstandard",
        };
        out.extend_from_slice(b"Obj\x01");
        long(2, out);
        block(b"avro.schema", out);
        block(text, out);
        block(b"avro.codec", out);
        block(codec.as_bytes(), out);
        long(0, out);
        let marker = xxh3_128_with_seed(&self.block, xxh3_64(text)).to_be_bytes();
        out.extend_from_slice(&marker);
        self.marker = Some(marker);
        marker
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let marker = self.begin(out);
        if self.rows == 0 {
            return Ok(());
        }
        let mut packed = Vec::new();
        let data: &[u8] = match &mut self.codec {
            Codec::None => &self.block,
            Codec::Deflate(deflate) => {
                packed.resize(deflate.deflate_compress_bound(self.block.len()), 0);
                let length = deflate.deflate_compress(&self.block, &mut packed).map_err(io::Error::other)?;
                packed.truncate(length);
                &packed
            }
            Codec::Snappy(snappy) => {
                packed = snappy.compress_vec(&self.block).map_err(io::Error::other)?;
                let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &self.block);
                packed.extend_from_slice(&u32::try_from(sum).unwrap_or_default().to_be_bytes());
                &packed
            }
            Codec::Zstd(zstd) => {
                packed = zstd.compress(&self.block)?;
                &packed
            }
        };
        long(self.rows.cast_signed(), out);
        block(data, out);
        out.extend_from_slice(&marker);
        self.block.clear();
        self.rows = 0;
        Ok(())
    }

    /// Which branch of Avro's union follows, if there is one.
    #[inline]
    fn value(&mut self, node: usize) -> &Form {
        match self.schema.layout.get(node) {
            Some(layout) => {
                if let Some(place) = layout.value {
                    long(i64::from(place), &mut self.block);
                }
                &layout.form
            }
            None => &Form::Plain,
        }
    }
}

impl CellWriter for AvroFile {
    fn end_row(&mut self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.flush(out).map_err(BuildError::new) } else { Ok(()) }
    }

    fn end_chunk(&mut self, _out: &mut Vec<u8>) -> Result<(), BuildError> {
        Ok(())
    }

    fn finish(mut self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.flush(out).map_err(BuildError::new)
    }
}

/// The most memory a file takes, in bytes.
pub(super) fn workspace(schema: &FileSchema, plan: &Plan, file: &FileOutline) -> usize {
    let codec = match schema.compression {
        AvroCompression::None | AvroCompression::Snappy => 64 << 10,
        AvroCompression::Deflate => Compression::Gzip.workspace(6),
        AvroCompression::Zstd { level } => Compression::Zstd.workspace(level.clamp(1, 22)),
    };
    let row = plan.largest_row(file.row_max);
    // The block, compressed, and in the output; what the rows of a chunk become beyond their length on tape.
    let blocks = BLOCK_BYTES.saturating_add(row).saturating_mul(3);
    codec
        .saturating_add(blocks)
        .saturating_add(2 * schema.text.len())
        .saturating_add(file.chunk_bytes().saturating_mul(4))
}

fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

fn block(bytes: &[u8], out: &mut Vec<u8>) {
    // No slice is longer than `i64` counts.
    long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(bytes);
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

/// The shortest two's complement that means the same.
fn shortest(bytes: &[u8; 32]) -> &[u8] {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = if negative { 0xff } else { 0 };
    let needed = bytes.iter().position(|byte| *byte != sign).unwrap_or(31);
    let keeps_sign = bytes.get(needed).is_some_and(|byte| (byte & 0x80 != 0) == negative);
    bytes.get(if keeps_sign { needed } else { needed.saturating_sub(1) }..).unwrap_or_default()
}

impl Cells for AvroFile {
    fn null(&mut self, node: usize) {
        if let Some(place) = self.schema.layout.get(node).and_then(|layout| layout.null) {
            long(i64::from(place), &mut self.block);
        }
    }

    fn boolean(&mut self, node: usize, value: bool) {
        self.value(node);
        self.block.push(u8::from(value));
    }

    #[inline]
    fn integer(&mut self, node: usize, value: i64) {
        self.value(node);
        long(value, &mut self.block);
    }

    fn unsigned(&mut self, node: usize, value: u64) {
        self.decimal(node, Wide::from_u64(value));
    }

    fn float(&mut self, node: usize, value: f32) {
        self.value(node);
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    fn double(&mut self, node: usize, value: f64) {
        self.value(node);
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    fn decimal(&mut self, node: usize, value: Wide) {
        let bytes = value.to_be_bytes();
        match *self.value(node) {
            Form::Decimal(Some(size)) => {
                let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
                self.block.resize(self.block.len() + size.saturating_sub(bytes.len()), sign);
                let start = bytes.len().saturating_sub(size);
                self.block.extend_from_slice(bytes.get(start..).unwrap_or_default());
            }
            _ => block(shortest(&bytes), &mut self.block),
        }
    }

    #[inline]
    fn text(&mut self, node: usize, value: &[u8]) {
        self.value(node);
        block(value, &mut self.block);
    }

    fn symbol(&mut self, node: usize, index: u32, _symbol: &[u8]) {
        let place = match self.value(node) {
            Form::Symbols(places) => places.get(index as usize).copied(),
            _ => None,
        };
        long(i64::from(place.unwrap_or(index)), &mut self.block);
    }

    fn bytes(&mut self, node: usize, value: &[u8]) {
        match self.value(node) {
            Form::Fixed => self.block.extend_from_slice(value),
            Form::UuidText => block(hexadecimal(value).as_bytes(), &mut self.block),
            _ => block(value, &mut self.block),
        }
    }

    fn duration(&mut self, node: usize, months: u32, days: u32, millis: u32) {
        self.value(node);
        for part in [months, days, millis] {
            self.block.extend_from_slice(&part.to_le_bytes());
        }
    }

    fn begin_struct(&mut self, node: usize) {
        self.value(node);
    }

    fn begin_list(&mut self, node: usize, count: usize) {
        self.value(node);
        if count > 0 {
            long(i64::try_from(count).unwrap_or(i64::MAX), &mut self.block);
        }
    }

    fn begin_map(&mut self, node: usize, count: usize) {
        self.begin_list(node, count);
    }

    fn key(&mut self, _node: usize, key: &[u8]) {
        block(key, &mut self.block);
    }

    fn branch(&mut self, node: usize, place: usize) {
        let branches = self.schema.layout.get(node).map(|layout| &layout.branches);
        let place = branches.and_then(|branches| branches.get(place)).copied().unwrap_or_default();
        long(i64::from(place), &mut self.block);
    }

    fn end(&mut self, node: usize) {
        if self.schema.layout.get(node).is_some_and(|layout| layout.form == Form::Blocks) {
            long(0, &mut self.block);
        }
    }
}
