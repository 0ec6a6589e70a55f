//! From the bytes of an object to its rows, by decoders of other crates, in constant memory.

use std::io::{self, BufRead, BufReader, Read};

use bytes::{Buf as _, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use flate2::bufread::MultiGzDecoder;
use memchr::memchr;
use tokio::sync::mpsc;

/// The largest row that is looked at; a larger one is a defect, not a reason to fill the memory.
const ROW_BYTES_MAX: usize = 16 << 20;
const DECODED_BYTES: usize = 256 << 10;

/// A body that arrives in chunks from an async task and is read by a blocking one. It ends when the sender is gone.
#[derive(Debug)]
pub(super) struct Body {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

/// The decoded bytes of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plain {
    /// How many, line ends included.
    pub(super) bytes: u64,
    /// Their CRC-32C.
    pub(super) crc32c: u32,
}

impl Body {
    /// A body of the chunks that will be sent.
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { chunks, current: Bytes::new() }
    }

    /// Its plain bytes. What it is compressed with is told from its first bytes, not from the object's name.
    pub(super) fn decode(mut self) -> io::Result<Box<dyn BufRead>> {
        let magic = self.peek(4);
        Ok(if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(DECODED_BYTES, MultiGzDecoder::new(self)))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let decoder = zstd::stream::read::Decoder::with_buffer(self)?;
            Box::new(BufReader::with_capacity(DECODED_BYTES, decoder))
        } else {
            Box::new(self)
        })
    }

    /// The first `count` bytes, fewer only if the body has no more.
    fn peek(&mut self, count: usize) -> &[u8] {
        if self.current.len() < count {
            let mut joined = BytesMut::from(&*self.current);
            while joined.len() < count
                && let Some(chunk) = self.chunks.blocking_recv()
            {
                joined.extend_from_slice(&chunk);
            }
            self.current = joined.freeze();
        }
        &self.current
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Calls `each` with every row, without its line end; a last row may lack one. Returns what all of them came to.
///
/// # Errors
/// What the decoder says of a broken stream, or a row beyond [`ROW_BYTES_MAX`].
pub(super) fn for_each_row(mut from: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<Plain> {
    let (mut begun, mut bytes, mut crc32c) = (Vec::new(), 0, Digest::new(CrcAlgorithm::Crc32Iscsi));
    loop {
        let available = from.fill_buf()?;
        if available.is_empty() {
            if !begun.is_empty() {
                each(&begun);
            }
            let crc32c = u32::try_from(crc32c.finalize()).map_err(io::Error::other)?;
            return Ok(Plain { bytes, crc32c });
        }
        bytes += available.len() as u64;
        crc32c.update(available);
        let mut rest = available;
        while let Some(end) = memchr(b'\n', rest) {
            let (row, after) = rest.split_at(end);
            if begun.is_empty() {
                each(row);
            } else {
                begun.extend_from_slice(row);
                each(&begun);
                begun.clear();
            }
            rest = after.get(1..).unwrap_or_default();
        }
        if begun.len() + rest.len() > ROW_BYTES_MAX {
            return Err(io::Error::other(format!("a row of more than {ROW_BYTES_MAX} bytes")));
        }
        begun.extend_from_slice(rest);
        let used = available.len();
        from.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn rows_in_chunks(object: &[u8], chunk_bytes: usize) -> io::Result<(Vec<Vec<u8>>, Plain)> {
        let chunks: Vec<Bytes> = object.chunks(chunk_bytes).map(Bytes::copy_from_slice).collect();
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk).unwrap();
        }
        drop(sender);
        let mut rows = Vec::new();
        let plain = for_each_row(Body::new(receiver).decode()?, |row| rows.push(row.to_vec()))?;
        Ok((rows, plain))
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_frame(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 1).unwrap()
    }

    #[test]
    fn every_compression_gives_the_same_rows_whatever_the_chunks() {
        let (head, tail) = (b"one\n\nthree is lo".as_slice(), b"nger\nno line end".as_slice());
        let plain = [head, tail].concat();
        // Members and frames one after the other, as compressors that work in blocks write them.
        let objects = [
            plain.clone(),
            gzip(&plain),
            [gzip(head), gzip(tail)].concat(),
            zstd_frame(&plain),
            [zstd_frame(head), zstd_frame(tail)].concat(),
        ];
        let wanted = [b"one".to_vec(), Vec::new(), b"three is longer".to_vec(), b"no line end".to_vec()];
        for object in &objects {
            for chunk_bytes in [1, 2, 3, 7, 1_000] {
                let (rows, sum) = rows_in_chunks(object, chunk_bytes).unwrap();
                assert_eq!(rows, wanted);
                assert_eq!(sum, Plain { bytes: 32, crc32c: crc_fast::crc32_iscsi(&plain) });
            }
        }
        assert_eq!(rows_in_chunks(b"", 1).unwrap(), (Vec::new(), Plain::default()));
    }

    #[test]
    fn a_truncated_or_damaged_stream_is_an_error() {
        for object in [gzip(b"row\nrow\nrow\n"), zstd_frame(b"row\nrow\nrow\n")] {
            let cut = &object[..object.len() - 3];
            assert!(rows_in_chunks(cut, 100).is_err());
            assert!(rows_in_chunks(&[object.as_slice(), b"garbage"].concat(), 100).is_err());
        }
    }

    #[test]
    fn an_endless_row_is_refused() {
        let object = vec![b'x'; ROW_BYTES_MAX + 1];
        assert!(rows_in_chunks(&object, 1 << 20).is_err());
    }
}
