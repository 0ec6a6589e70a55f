//! Reading letters back.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use aqueduct_core::{LetterSource, Offset, StageError, StoredLetter, TopicPartition, UnreadableLetter};
use async_trait::async_trait;

use super::{LetterError, letter_files, line};

/// A line without an end is not read into memory whole.
const LINE_MAX: u64 = 1 << 30;
/// Letters, and about how many bytes of them, that are read in one go.
const READ_LETTERS: usize = 256;
const READ_BYTES: usize = 1 << 20;

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

/// The letters of a directory as a [`LetterSource`]: [`read_letters`], on threads that may block.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aqueduct_core::LetterSource;
/// use aqueduct_files::DirectoryLetters;
///
/// # let directory = tempfile::tempdir()?;
/// let mut letters = DirectoryLetters::new(directory.path());
/// assert!(letters.next().await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DirectoryLetters {
    directory: PathBuf,
    letters: Option<Letters>,
    ready: VecDeque<Result<StoredLetter, UnreadableLetter>>,
}

impl DirectoryLetters {
    /// Letters of a directory; one that is not there has none.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), letters: None, ready: VecDeque::new() }
    }
}

/// Reads some letters, and fewer if they are large. Blocks.
fn read_some(letters: &mut Letters) -> Result<VecDeque<Result<StoredLetter, UnreadableLetter>>, LetterError> {
    let (mut ready, mut bytes) = (VecDeque::new(), 0);
    while ready.len() < READ_LETTERS && bytes < READ_BYTES {
        match letters.next() {
            None => break,
            Some(Ok(letter)) => {
                bytes += letter.record.value.as_ref().map_or(0, bytes::Bytes::len);
                ready.push_back(Ok(letter));
            }
            Some(Err(LetterError::Damaged { path, line, detail })) => {
                let place = format!("line {line} of {}", path.display());
                ready.push_back(Err(UnreadableLetter { place, detail }));
            }
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(ready)
}

#[async_trait]
impl LetterSource for DirectoryLetters {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        const STAGE: &str = "read dead letters";
        if self.ready.is_empty() {
            let (letters, directory) = (self.letters.take(), self.directory.clone());
            let read = tokio::task::spawn_blocking(move || {
                let mut letters = letters.map_or_else(|| read_letters(directory), Ok)?;
                read_some(&mut letters).map(|ready| (letters, ready))
            });
            let read = read.await.map_err(|error| StageError::fatal(STAGE, error))?;
            let (letters, ready) = read.map_err(|error| StageError::new(STAGE, error))?;
            (self.letters, self.ready) = (Some(letters), ready);
        }
        Ok(self.ready.pop_front())
    }
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
