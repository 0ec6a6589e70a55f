//! Numbers with a fixed number of digits after the point, of any size.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::error::{Poison, PoisonReason};

/// `unscaled × 10^-scale`, exactly.
///
/// The unscaled number is in two's complement, most significant byte first, as Avro and Connect write it.
///
/// ```
/// use aqueduct_core::Decimal;
///
/// let price = Decimal::from_i128(-12_345, 2);
/// assert_eq!(price.to_string(), "-123.45");
/// assert_eq!(Decimal::new(&[0x00, 0xff][..], 3).to_string(), "0.255");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal<'a> {
    unscaled: Cow<'a, [u8]>,
    scale: u32,
}

impl<'a> Decimal<'a> {
    /// Bytes of the unscaled number that are written as text: some 2 466 digits.
    pub const BYTES_MAX: usize = 1_024;

    /// Digits after the point that are written as text.
    pub const SCALE_MAX: u32 = 4_096;

    /// The number whose two's complement, most significant byte first, is `unscaled`; no bytes are zero.
    pub fn new(unscaled: impl Into<Cow<'a, [u8]>>, scale: u32) -> Self {
        Self { unscaled: unscaled.into(), scale }
    }

    /// A number of up to 38 digits.
    pub fn from_i128(unscaled: i128, scale: u32) -> Decimal<'static> {
        Decimal { unscaled: Cow::Owned(unscaled.to_be_bytes().to_vec()), scale }
    }

    /// The unscaled number's two's complement, most significant byte first; may begin with more sign bytes than needed.
    pub fn unscaled(&self) -> &[u8] {
        &self.unscaled
    }

    /// Digits after the point.
    pub fn scale(&self) -> u32 {
        self.scale
    }

    /// The unscaled number, if it has at most 128 bits.
    pub fn to_i128(&self) -> Option<i128> {
        let sign = self.sign_byte();
        let bytes = self.magnitude_bytes();
        let mut wide = [sign; 16];
        let start = wide.len().checked_sub(bytes.len())?;
        wide.get_mut(start..)?.copy_from_slice(bytes);
        let number = i128::from_be_bytes(wide);
        // Sixteen bytes may have lost the sign that a seventeenth held.
        ((number < 0) == (sign != 0)).then_some(number)
    }

    /// Whether the number is to be written. Its text has a digit for each place after the point, however few bytes said so, and
    /// takes time by the square of its length: whoever takes numbers from producers checks before it makes text of them, as
    /// [`JsonText`](crate::JsonText) does.
    ///
    /// # Errors
    /// A [`Poison`] that names the limits, [`BYTES_MAX`](Self::BYTES_MAX) and [`SCALE_MAX`](Self::SCALE_MAX), if it is beyond one.
    pub fn check_limits(&self) -> Result<(), Poison> {
        if self.unscaled.len() <= Self::BYTES_MAX && self.scale <= Self::SCALE_MAX {
            return Ok(());
        }
        let (bytes, scale) = (Self::BYTES_MAX, Self::SCALE_MAX);
        let text =
            format!("a decimal has more than {bytes} bytes, or more than {scale} digits behind its point");
        Err(Poison::new(PoisonReason::TooLarge, text))
    }

    /// The same without what it borrows.
    pub fn into_owned(self) -> Decimal<'static> {
        Decimal { unscaled: Cow::Owned(self.unscaled.into_owned()), scale: self.scale }
    }

    fn sign_byte(&self) -> u8 {
        if self.unscaled.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 }
    }

    /// Without leading bytes that only repeat the sign.
    fn magnitude_bytes(&self) -> &[u8] {
        let sign = self.sign_byte();
        let skip = self.unscaled.iter().take_while(|byte| **byte == sign).count();
        self.unscaled.get(skip..).unwrap_or_default()
    }

    /// The digits of the absolute value; none of zero.
    fn digits(&self) -> String {
        let negative = self.sign_byte() != 0;
        // Limbs of the absolute value, least significant first.
        let mut limbs: Vec<u32> = Vec::with_capacity(self.unscaled.len() / 4 + 1);
        let mut carry = negative;
        for chunk in self.unscaled.rchunks(4) {
            let mut limb = [self.sign_byte(); 4];
            for (to, from) in limb.iter_mut().rev().zip(chunk.iter().rev()) {
                *to = *from;
            }
            let limb = u32::from_be_bytes(limb);
            let (limb, over) =
                if negative { (!limb).overflowing_add(u32::from(carry)) } else { (limb, false) };
            limbs.push(limb);
            carry = over;
        }
        let mut groups = Vec::new();
        loop {
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
            if limbs.is_empty() {
                break;
            }
            let mut remainder = 0_u64;
            for limb in limbs.iter_mut().rev() {
                let number = remainder << 32 | u64::from(*limb);
                // Below 2^32, because the remainder was below the divisor.
                *limb = u32::try_from(number / GROUP).unwrap_or(u32::MAX);
                remainder = number % GROUP;
            }
            groups.push(remainder);
        }
        let mut text = String::with_capacity(groups.len() * 9);
        for (index, group) in groups.iter().rev().enumerate() {
            let width = if index == 0 { 0 } else { 9 };
            // Writing to memory cannot fail.
            write!(text, "{group:0width$}").ok();
        }
        text
    }
}

impl fmt::Display for Decimal<'_> {
    /// Plain digits, never an exponent; as many after the point as the scale says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.to_i128() {
            Some(small) => small.unsigned_abs().to_string(),
            None => self.digits(),
        };
        let scale = self.scale as usize;
        if self.sign_byte() != 0 {
            f.write_char('-')?;
        }
        let whole = text.len().saturating_sub(scale);
        let (before, after) = text.split_at(whole);
        f.write_str(if before.is_empty() { "0" } else { before })?;
        if scale > 0 {
            f.write_char('.')?;
            let mut missing = scale.saturating_sub(after.len());
            while missing > 0 {
                let zeros = ZEROS.get(..missing).unwrap_or(ZEROS);
                f.write_str(zeros)?;
                missing -= zeros.len();
            }
            f.write_str(after)?;
        }
        Ok(())
    }
}

/// Nine digits are split off at a time.
const GROUP: u64 = 1_000_000_000;
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_numbers_keep_their_zeros() {
        let shown = |unscaled, scale| Decimal::from_i128(unscaled, scale).to_string();
        assert_eq!(shown(0, 0), "0");
        assert_eq!(shown(0, 2), "0.00");
        assert_eq!(shown(-5, 3), "-0.005");
        assert_eq!(shown(1200, 2), "12.00");
        assert_eq!(Decimal::new(&[][..], 1).to_string(), "0.0");
        assert_eq!(shown(i128::MIN, 0), i128::MIN.to_string());
    }

    #[test]
    fn more_than_128_bits_are_no_i128_and_keep_every_digit() {
        // 2^128 - 1 and 2^127 need a seventeenth byte for their sign.
        let mut bytes = vec![0];
        bytes.extend_from_slice(&[0xff; 16]);
        let large = Decimal::new(&bytes[..], 1);
        assert_eq!(large.to_i128(), None);
        assert_eq!(large.to_string(), "34028236692093846346337460743176821145.5");
        let negative = Decimal::new([&[0xff_u8][..], &[0_u8; 16][..]].concat(), 0);
        assert_eq!(negative.to_i128(), None);
        assert_eq!(negative.to_string(), "-340282366920938463463374607431768211456");
        // Groups of digits that begin with zeros: 10^45 + 7.
        let padded = b"\x2c\xd7\x6f\xe0\x86\xb9\x3c\xe2\xf7\x68\xa0\x0b\x22\xa0\0\0\0\0\x07";
        assert_eq!(Decimal::new(&padded[..], 0).to_string(), format!("1{}7", "0".repeat(44)));
    }

    proptest! {
        #[test]
        fn text_and_number_agree(number: i128, scale in 0..40_u32, padding in 0..5_usize) {
            let mut bytes = vec![if number < 0 { 0xff } else { 0 }; padding];
            bytes.extend_from_slice(&number.to_be_bytes());
            let decimal = Decimal::new(&bytes[..], scale);
            prop_assert_eq!(decimal.to_i128(), Some(number));
            let text = decimal.to_string();
            prop_assert_eq!(text.replace('.', "").parse::<i128>().ok(), Some(number));
            prop_assert_eq!(text.split_once('.').map_or(0, |(_, after)| after.len()), scale as usize);
            // The long way says the same.
            let digits = decimal.digits();
            prop_assert_eq!(if digits.is_empty() { "0" } else { &digits }, number.unsigned_abs().to_string());
        }
    }
}
