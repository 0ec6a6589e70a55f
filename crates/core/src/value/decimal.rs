//! Numbers with a fixed number of digits after the point, of any size.

use std::borrow::Cow;
use std::fmt;

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

    /// The digits of the absolute value, least significant first; at least one.
    fn digits(&self) -> Vec<u8> {
        // Limbs of the absolute value, most significant first.
        let mut limbs = self.unscaled.to_vec();
        if self.sign_byte() != 0 {
            let mut carry = true;
            for byte in limbs.iter_mut().rev() {
                let (flipped, over) = (!*byte).overflowing_add(u8::from(carry));
                (*byte, carry) = (flipped, over);
            }
        }
        let mut digits = Vec::new();
        let mut first = 0;
        loop {
            // Zeros in front stay zero.
            while limbs.get(first) == Some(&0) {
                first += 1;
            }
            let Some(rest) = limbs.get_mut(first..).filter(|rest| !rest.is_empty()) else { break };
            let mut remainder = 0_u16;
            for byte in rest {
                let number = remainder << 8 | u16::from(*byte);
                *byte = u8::try_from(number / 10).unwrap_or(u8::MAX);
                remainder = number % 10;
            }
            digits.push(u8::try_from(remainder).unwrap_or_default());
        }
        if digits.is_empty() {
            digits.push(0);
        }
        digits
    }
}

impl fmt::Display for Decimal<'_> {
    /// Plain digits, never an exponent; as many after the point as the scale says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let (number, digits);
        let text: String = if let Some(small) = self.to_i128() {
            number = small.unsigned_abs().to_string();
            number
        } else {
            digits = self.digits();
            digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
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
            for _ in after.len()..scale {
                f.write_char('0')?;
            }
            f.write_str(after)?;
        }
        Ok(())
    }
}

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
            let digits: String = decimal.digits().iter().rev().map(|digit| char::from(b'0' + digit)).collect();
            prop_assert_eq!(digits, number.unsigned_abs().to_string());
        }
    }
}
