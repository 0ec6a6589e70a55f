//! Reading letters back.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use aqueduct_core::{Offset, StoredLetter, TopicPartition};

use super::{LetterError, letter_files, line};

/// A line without an end is not read into memory whole.
const LINE_MAX: u64 = 1 << 30;

/// The letters of a directory; made by [`read_letters`].
#[derive(Debug)]
pub struct Letters {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<Open>,
    seen: HashSet<(TopicPartition, Offset)>,
    torn: u64,
}

#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
    path: PathBuf,
    line: u64,
}

/// Reads the letters that [`DirectoryDeadLetters`](super::DirectoryDeadLetters) has stored, file by file, oldest first. Each
/// record comes once, however often it was sent. Memory grows by some dozens of bytes a letter, to know them again.
///
/// A line that was torn by a crash, the last one of its file, is left out: it was sent again. Any other line that is no letter
/// is an error, behind which reading goes on.
///
/// # Errors
/// If the directory cannot be listed. One that is not there has no letters.
pub fn read_letters(directory: impl AsRef<Path>) -> Result<Letters, LetterError> {
    let files = letter_files(directory.as_ref())?.into_iter();
    Ok(Letters { files, open: None, seen: HashSet::new(), torn: 0 })
}

impl Letters {
    /// How many torn lines were left out so far.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// The next line of the next file that has one, with its place.
    fn line(&mut self) -> Result<Option<(Vec<u8>, PathBuf, u64)>, LetterError> {
        loop {
            let mut open = if let Some(open) = self.open.take() {
                open
            } else {
                let Some(path) = self.files.next() else { return Ok(None) };
                let file = File::open(&path).map_err(LetterError::io("open", &path))?;
                Open { reader: BufReader::new(file), path, line: 0 }
            };
            let mut line = Vec::new();
            // The file is left behind after an error: whatever it is, it would come again.
            let read = open.reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            read.map_err(LetterError::io("read", &open.path))?;
            if line.pop_if(|last| *last == b'\n').is_some() {
                open.line += 1;
                let place = (open.path.clone(), open.line);
                self.open = Some(open);
                return Ok(Some((line, place.0, place.1)));
            }
            if line.len() as u64 == LINE_MAX {
                let detail = format!("it is longer than {LINE_MAX} bytes");
                return Err(LetterError::Damaged { path: open.path, line: open.line + 1, detail });
            }
            self.torn += u64::from(!line.is_empty());
        }
    }
}

impl Iterator for Letters {
    type Item = Result<StoredLetter, LetterError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (bytes, path, line) = match self.line() {
                Ok(found) => found?,
                Err(error) => return Some(Err(error)),
            };
            match line::read(&bytes) {
                Err(detail) => return Some(Err(LetterError::Damaged { path, line, detail })),
                Ok(letter) => {
                    if self.seen.insert((letter.record.lane.clone(), letter.record.offset)) {
                        return Some(Ok(letter));
                    }
                }
            }
        }
    }
}
