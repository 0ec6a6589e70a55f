//! Protobuf's wire format: tags, varints and what lies between.

use aqueduct_core::{NESTING_MAX, Poison, PoisonReason};

/// Reads fields one after the other.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

/// How a field's content is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Length,
    Group,
    Fixed32,
}

/// A field as it stands in a message.
pub(super) struct Raw {
    pub(super) number: u32,
    pub(super) wire: WireType,
    /// Where its content is: without its length, or without the tags of a group.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next field.
    pub(super) fn field(&mut self) -> Result<Raw, Poison> {
        let (number, code) = self.tag()?;
        if code == END_GROUP {
            return Err(malformed("a group ends that has not begun"));
        }
        let (wire, start, end) = self.content(number, code)?;
        Ok(Raw { number, wire, start, end })
    }

    fn tag(&mut self) -> Result<(u32, u8), Poison> {
        let tag = u32::try_from(self.varint()?).map_err(|_| malformed("a field's number is out of range"))?;
        let number = tag >> 3;
        if number == 0 {
            return Err(malformed("a field has the number 0"));
        }
        // Three bits.
        Ok((number, u8::try_from(tag & 7).unwrap_or_default()))
    }

    fn content(&mut self, number: u32, code: u8) -> Result<(WireType, usize, usize), Poison> {
        let start = self.at;
        Ok(match code {
            0 => {
                self.varint()?;
                (WireType::Varint, start, self.at)
            }
            1 => {
                self.skip(8)?;
                (WireType::Fixed64, start, self.at)
            }
            2 => {
                let length = self.varint()?;
                let start = self.at;
                self.skip(length)?;
                (WireType::Length, start, self.at)
            }
            START_GROUP => {
                let end = self.group(number)?;
                (WireType::Group, start, end)
            }
            5 => {
                self.skip(4)?;
                (WireType::Fixed32, start, self.at)
            }
            _ => return Err(malformed("a field is of no wire type")),
        })
    }

    /// Passes a group that has begun; answers where its content ends.
    fn group(&mut self, number: u32) -> Result<usize, Poison> {
        let mut open = vec![number];
        loop {
            let at = self.at;
            let (number, code) = self.tag()?;
            match code {
                END_GROUP => {
                    if open.pop() != Some(number) {
                        return Err(malformed("a group ends that has not begun"));
                    }
                    if open.is_empty() {
                        return Ok(at);
                    }
                }
                START_GROUP => {
                    if open.len() >= NESTING_MAX {
                        return Err(too_deep());
                    }
                    open.push(number);
                }
                _ => {
                    self.content(number, code)?;
                }
            }
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, Poison> {
        let mut value = 0_u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for (index, byte) in rest.iter().enumerate().take(VARINT_MAX) {
            // The tenth byte holds one bit; what it holds besides is cut off, as by other readers.
            value |=
                u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).unwrap_or_default()).unwrap_or(0);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        if rest.len() < VARINT_MAX {
            return Err(malformed("the message ends within a number"));
        }
        Err(malformed("a number has more than ten bytes"))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Poison> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk::<N>().copied();
        self.at += N;
        array.ok_or_else(|| malformed("the message ends within a field"))
    }

    fn skip(&mut self, length: u64) -> Result<(), Poison> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        match end {
            Some(end) if end <= self.bytes.len() => {
                self.at = end;
                Ok(())
            }
            _ => Err(malformed("a length goes past the end of the message")),
        }
    }
}

#[cold]
pub(super) fn malformed(problem: &str) -> Poison {
    Poison::new(PoisonReason::Malformed, format!("not valid protobuf: {problem}"))
}

#[cold]
pub(super) fn too_deep() -> Poison {
    Poison::new(PoisonReason::TooLarge, "the message nests deeper than 128 levels")
}

const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const VARINT_MAX: usize = 10;
