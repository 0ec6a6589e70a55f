//! Decides whether bytes are one JSON document, in one pass.
//!
//! This is the hottest loop of a JSON pipeline, and no parser's own check fits: skipping values with `serde_json`
//! lets lone surrogates, broken UTF-8, numbers nobody can read and any depth of nesting pass, and building its
//! `Value` costs four times as much. The rules here are exactly those under which `serde_json::Value` parses, so that
//! whatever is stored can be read again; property tests hold the two together.

use std::ops::Range;

use super::text::{plain_run, skip_space};
use super::tokens::{Tokens, tag};

/// Levels of nesting a document may have; one more is an error. The limit of `serde_json`, and what keeps hostile
/// documents from exhausting the stack of a reader further down.
pub const NESTING_MAX: u32 = 127;

/// Why bytes are not one JSON document, and where. Shows nothing of the bytes themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid json at byte {position}: {problem}")]
pub struct JsonError {
    position: usize,
    problem: &'static str,
}

impl JsonError {
    /// The first byte that cannot be right, from 0; the length of the text if it ends too early.
    pub fn position(&self) -> usize {
        self.position
    }
}

/// What the validator has learnt about a document.
pub(super) struct Document {
    /// The document without the whitespace around it.
    pub(super) span: Range<usize>,
    /// Whether there is a raw newline or carriage return inside.
    pub(super) multiline: bool,
    /// Its names and values, by position in `span`.
    pub(super) tokens: Tokens,
}

/// Checks that `text` is one JSON document, with nothing but whitespace around it.
pub(super) fn validate(text: &[u8]) -> Result<Document, JsonError> {
    if text.is_empty() {
        return Err(JsonError { position: 0, problem: "the value is empty" });
    }
    if text.starts_with(b"\xEF\xBB\xBF") {
        return Err(JsonError { position: 0, problem: "the text starts with a byte order mark" });
    }
    let start = skip_space(text, 0);
    let in_text = |error: JsonError| JsonError { position: error.position + start, ..error };
    let mut validator = Validator::new(text.get(start..).unwrap_or_default());
    validator.document().map_err(in_text)?;
    let span = start..start + validator.at;
    validator.at = skip_space(validator.text, validator.at);
    if validator.at < validator.text.len() {
        return Err(in_text(validator.error("there is more after the end of the document")));
    }
    if validator.high != 0
        && let Err(error) = std::str::from_utf8(text)
    {
        return Err(JsonError { position: error.valid_up_to(), problem: "the text is not utf-8" });
    }
    Ok(Document { span, multiline: validator.multiline, tokens: validator.tokens })
}

struct Validator<'a> {
    text: &'a [u8],
    at: usize,
    /// One bit a level, the innermost lowest: set in an object, clear in an array.
    objects: u128,
    depth: u32,
    /// Not zero once a byte above ASCII was passed.
    high: u64,
    /// Whether a raw newline was passed.
    multiline: bool,
    tokens: Tokens,
}

impl<'a> Validator<'a> {
    fn new(text: &'a [u8]) -> Self {
        let tokens = Tokens::new(text.len());
        Self { text, at: 0, objects: 0, depth: 0, high: 0, multiline: false, tokens }
    }

    fn document(&mut self) -> Result<(), JsonError> {
        loop {
            let opened = match self.peek() {
                Some(b'"') => {
                    self.string(tag::TEXT, tag::ESCAPED_TEXT)?;
                    false
                }
                Some(b'{') => self.open_object()?,
                Some(b'[') => self.open_array()?,
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                    false
                }
                Some(b't') => self.literal(b"true", tag::TRUE)?,
                Some(b'f') => self.literal(b"false", tag::FALSE)?,
                Some(b'n') => self.literal(b"null", tag::NULL)?,
                Some(_) => return Err(self.error("expected a value")),
                None => return Err(self.error("the text ends where a value should be")),
            };
            if !opened && !self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Whether another value follows the one just passed.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        while self.depth > 0 {
            self.space();
            let in_object = self.objects & 1 == 1;
            match (self.peek(), in_object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.space();
                    self.key()?;
                    return Ok(true);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    self.space();
                    return Ok(true);
                }
                (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                (Some(_), true) => return Err(self.error("expected a comma or the end of the object")),
                (Some(_), false) => return Err(self.error("expected a comma or the end of the array")),
                (None, _) => return Err(self.error("the text ends inside an object or array")),
            }
        }
        Ok(false)
    }

    /// Whether a value follows: not in an empty object.
    fn open_object(&mut self) -> Result<bool, JsonError> {
        self.open(tag::OBJECT)?;
        if self.peek() == Some(b'}') {
            self.close();
            return Ok(false);
        }
        self.key()?;
        Ok(true)
    }

    /// Whether a value follows: not in an empty array.
    fn open_array(&mut self) -> Result<bool, JsonError> {
        self.open(tag::ARRAY)?;
        if self.peek() == Some(b']') {
            self.close();
            return Ok(false);
        }
        Ok(true)
    }

    fn open(&mut self, tag: u32) -> Result<(), JsonError> {
        if self.depth == NESTING_MAX {
            return Err(self.error("nested deeper than 127 levels"));
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(tag == tag::OBJECT);
        self.tokens.open(tag, self.at);
        self.at += 1;
        self.space();
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        self.tokens.close();
        self.at += 1;
    }

    /// Passes a member's name and the colon after it.
    fn key(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(tag::NAME, tag::ESCAPED_NAME)?,
            Some(_) => return Err(self.error("expected a member's name in quotes")),
            None => return Err(self.error("the text ends inside an object")),
        }
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.error("expected a colon after a member's name"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Passes a string, and notes it under the tag that fits.
    #[inline]
    fn string(&mut self, mut tag: u32, escaped: u32) -> Result<(), JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            self.at = plain_run(self.text, self.at, &mut self.high);
            match self.peek() {
                Some(b'"') => {
                    self.tokens.push(tag, start, self.at);
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    tag = escaped;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.error("a raw control character in a string")),
                Some(byte) => {
                    self.high |= u64::from(byte & 0x80);
                    self.at += 1;
                }
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let at_start = |problem| JsonError { position: start, problem };
        self.at += 2;
        match self.text.get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.hex().ok_or(at_start("an escape without four hex digits"))? {
                0xD800..0xDC00 => {
                    if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                        return Err(at_start("half of a surrogate pair"));
                    }
                    self.at += 2;
                    match self.hex() {
                        Some(0xDC00..0xE000) => Ok(()),
                        _ => Err(at_start("half of a surrogate pair")),
                    }
                }
                0xDC00..0xE000 => Err(at_start("half of a surrogate pair")),
                _ => Ok(()),
            },
            Some(_) => Err(at_start("an unknown escape")),
            None => Err(at_start("the text ends inside a string")),
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading = self.peek();
        let whole = self.digits()?;
        if leading == Some(b'0') && whole > 1 {
            return Err(JsonError { position: start, problem: "a number with a leading zero" });
        }
        let mut tag = tag::WHOLE;
        if self.peek() == Some(b'.') {
            tag = tag::NUMBER;
            self.at += 1;
            self.digits()?;
        }
        let mut exponent = 0;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            tag = tag::NUMBER;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            exponent = self.digits()?;
        }
        // 10^100 times 10^99 is far inside the range; anything near its end is for the parser that will read it.
        if whole > 100 || exponent > 2 {
            let token = self.text.get(start..self.at).unwrap_or_default();
            if serde_json::from_slice::<f64>(token).is_err() {
                return Err(JsonError { position: start, problem: "a number out of range" });
            }
        }
        self.tokens.push(tag, start, self.at);
        Ok(())
    }

    /// Passes digits and counts them; at least one.
    #[inline]
    fn digits(&mut self) -> Result<usize, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error("expected a digit"));
        }
        Ok(self.at - start)
    }

    /// Always `false`: nothing is opened.
    fn literal(&mut self, word: &[u8], tag: u32) -> Result<bool, JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.error("expected a value"));
        }
        self.tokens.push(tag, self.at, self.at + word.len());
        self.at += word.len();
        Ok(false)
    }

    #[inline]
    fn space(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => {}
                Some(b'\n' | b'\r') => self.multiline = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[cold]
    fn error(&self, problem: &'static str) -> JsonError {
        JsonError { position: self.at, problem }
    }
}
