//! Compression in independent pieces.
//!
//! Rows are compressed a piece of [`PIECE`] bytes at a time into whole gzip members or zstd frames, one after the
//! other; both formats define that as the concatenation of their contents, and every decoder reads it as one file. It
//! bounds the memory of a compressor whatever the object's size.

use std::io;

use libdeflater::{CompressionLvl, Compressor as Deflate};
use zstd::bulk::Compressor as Zstd;

/// Rows that are compressed together, in bytes. Larger pieces gain a few percent of size and cost memory per lane.
pub(crate) const PIECE: usize = 256 << 10;

/// How objects are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: rows go from the spool to the target as they are.
    #[default]
    None,
    /// gzip, adding `.gz` to keys. Levels 1 to 12; 1 by default, because 6 costs more than the rest of the pipeline.
    Gzip,
    /// Zstandard, adding `.zst` to keys. Levels 1 to 19; 1 by default.
    Zstd,
}

/// A level the codec does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compression level {level} does not exist for {}; use 1 to {max}", .codec.name())]
pub struct LevelError {
    codec: Compression,
    level: i32,
    max: i32,
}

impl Compression {
    /// The level if none is chosen.
    pub const DEFAULT_LEVEL: i32 = 1;

    /// What it adds to a key.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// Its name in the layout's identity. The level is not part of it: rows are the same at any.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn content_type(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("application/gzip"),
            Self::Zstd => Some("application/zstd"),
        }
    }

    pub(crate) fn check_level(self, level: i32) -> Result<(), LevelError> {
        let max = match self {
            Self::None => return Ok(()),
            Self::Gzip => 12,
            Self::Zstd => 19,
        };
        if (1..=max).contains(&level) { Ok(()) } else { Err(LevelError { codec: self, level, max }) }
    }

    /// Memory a compressor needs beside its input and output, in bytes; generous.
    pub(crate) fn workspace(self, level: i32) -> usize {
        match self {
            Self::None => 0,
            Self::Gzip if level < 10 => 1 << 20,
            Self::Gzip => 9 << 20,
            // Tables follow the piece's size, not the level's full window.
            Self::Zstd if level < 10 => 2 << 20,
            Self::Zstd => 6 << 20,
        }
    }

    /// The most bytes `rows` bytes can become, over any number of pieces.
    pub(crate) fn bound(self, rows: usize) -> usize {
        let pieces = rows.div_ceil(PIECE).max(1);
        match self {
            Self::None => rows,
            // Stored blocks of 64 KiB with 5 bytes each, and 18 bytes around a member; zstd needs less.
            Self::Gzip | Self::Zstd => rows + rows / 256 + 1024 * pieces,
        }
    }
}

/// The state of one compressor, to be used for piece after piece.
pub(crate) enum Compressor {
    Gzip(Box<Deflate>),
    Zstd(Zstd<'static>),
}

impl Compressor {
    /// `None` for [`Compression::None`].
    pub(crate) fn new(codec: Compression, level: i32) -> io::Result<Option<Self>> {
        Ok(match codec {
            Compression::None => None,
            Compression::Gzip => {
                let level = CompressionLvl::new(level).map_err(|_| io::Error::other("no such gzip level"))?;
                Some(Self::Gzip(Box::new(Deflate::new(level))))
            }
            Compression::Zstd => {
                let mut zstd = Zstd::new(level)?;
                zstd.include_checksum(true)?;
                Some(Self::Zstd(zstd))
            }
        })
    }

    /// Compresses one piece to the start of `out`; answers how many bytes it became.
    pub(crate) fn piece(&mut self, rows: &[u8], out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(deflate) => deflate.gzip_compress(rows, out).map_err(io::Error::other),
            Self::Zstd(zstd) => zstd.compress_to_buffer(rows, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    fn compress(codec: Compression, level: i32, rows: &[u8]) -> Vec<u8> {
        let mut out = vec![0; codec.bound(rows.len())];
        let mut compressor = Compressor::new(codec, level).unwrap().unwrap();
        let mut filled = 0;
        for piece in rows.chunks(PIECE) {
            filled += compressor.piece(piece, &mut out[filled..]).unwrap();
        }
        out.truncate(filled);
        out
    }

    #[test]
    fn pieces_are_one_file_to_other_decoders() {
        for rows in [noise(3 * PIECE + 17), b"{\"a\":1}\n".repeat(100_000)] {
            for level in [1, 6, 12] {
                let mut read = Vec::new();
                let packed = compress(Compression::Gzip, level, &rows);
                flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut read).unwrap();
                assert!(read == rows, "gzip {level}");
            }
            for level in [1, 3, 19] {
                let packed = compress(Compression::Zstd, level, &rows);
                assert!(zstd::stream::decode_all(&packed[..]).unwrap() == rows, "zstd {level}");
            }
        }
    }

    #[test]
    fn the_bound_holds_for_what_cannot_be_compressed() {
        for length in [0, 1, 100, PIECE - 1, PIECE, PIECE + 1, 4 * PIECE] {
            for codec in [Compression::Gzip, Compression::Zstd] {
                let rows = noise(length);
                assert!(compress(codec, 1, &rows).len() <= codec.bound(length));
            }
        }
    }

    #[test]
    fn levels_past_the_limit_are_refused() {
        assert!(Compression::Gzip.check_level(12).is_ok());
        assert_eq!(
            Compression::Gzip.check_level(13).unwrap_err().to_string(),
            "compression level 13 does not exist for gzip; use 1 to 12"
        );
        assert!(Compression::Zstd.check_level(19).is_ok());
        assert!(Compression::Zstd.check_level(20).is_err());
        assert!(Compression::Zstd.check_level(0).is_err());
        assert!(Compression::None.check_level(99).is_ok());
    }
}
