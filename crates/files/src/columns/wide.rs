//! Whole numbers of 256 bits, as far as decimals need them.

/// A whole number of at most 76 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    /// Least significant first.
    limbs: [u64; 4],
    negative: bool,
}

impl Wide {
    const ZERO: Self = Self { limbs: [0; 4], negative: false };

    pub(crate) fn from_u64(number: u64) -> Self {
        Self { limbs: [number, 0, 0, 0], negative: false }
    }

    pub(crate) fn from_i64(number: i64) -> Self {
        Self { limbs: [number.unsigned_abs(), 0, 0, 0], negative: number < 0 }
    }

    /// From two's complement, most significant byte first. `None` if it has more than 256 bits.
    pub(crate) fn from_be_bytes(bytes: &[u8]) -> Option<Self> {
        let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        let sign = if negative { 0xff } else { 0 };
        let skip = bytes.iter().take_while(|byte| **byte == sign).count();
        let bytes = bytes.get(skip..)?;
        let mut wide = [sign; 32];
        let start = wide.len().checked_sub(bytes.len())?;
        wide.get_mut(start..)?.copy_from_slice(bytes);
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().rev().zip(wide.chunks_exact(8)) {
            *limb = u64::from_be_bytes(chunk.try_into().ok()?);
        }
        // All 256 bits may be the magnitude's: then the sign is lost.
        if (limbs[3] >> 63 != 0) != negative {
            return None;
        }
        let mut number = Self { limbs, negative: false };
        if negative {
            number.negate();
            number.negative = true;
        }
        Some(number)
    }

    /// `text`, a number as JSON spells it, times `10^scale`; `None` if that is no whole number of at most 76 digits.
    pub(crate) fn from_text(text: &[u8], scale: u32) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let split = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let (mantissa, exponent) = text.split_at(split);
        let mut power = match exponent.get(1..) {
            None => 0,
            Some(digits) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok()?,
        };
        let mut number = Self::ZERO;
        let (mut zeros, mut point, mut digits) = (0_u32, false, false);
        for byte in mantissa {
            match byte {
                b'.' if !point => point = true,
                b'0'..=b'9' => {
                    digits = true;
                    power = power.checked_sub(i64::from(point))?;
                    if *byte == b'0' {
                        // Only counts if another digit comes.
                        zeros = zeros.checked_add(1)?;
                        continue;
                    }
                    if number != Self::ZERO {
                        number = number.times_power(zeros.checked_add(1)?)?;
                    }
                    zeros = 0;
                    number = number.plus(u64::from(byte - b'0'))?;
                }
                _ => return None,
            }
        }
        if !digits {
            return None;
        }
        if number == Self::ZERO {
            return Some(number);
        }
        let power = power.checked_add(i64::from(zeros))?.checked_add(i64::from(scale))?;
        number = number.times_power(u32::try_from(power).ok()?)?;
        number.negative = negative;
        Some(number)
    }

    /// The same number with `to` digits after the point instead of `from`; `None` if it has more, or gets too large.
    pub(crate) fn rescale(self, from: u32, to: u32) -> Option<Self> {
        if from <= to {
            return if self.limbs == [0; 4] { Some(Self::ZERO) } else { self.times_power(to - from) };
        }
        let mut number = self;
        for _ in to..from {
            if number.limbs == [0; 4] {
                break;
            }
            number = number.tenth()?;
        }
        Some(number)
    }

    /// Whether it has at most so many digits.
    pub(crate) fn has_digits(&self, digits: u32) -> bool {
        match Self::from_u64(1).times_power(digits) {
            Some(bound) => self.limbs.iter().rev().lt(bound.limbs.iter().rev()),
            None => true,
        }
    }

    /// How many digits it has; zero has none.
    pub(crate) fn digits(&self) -> u32 {
        (0..=Self::DIGITS_MAX).find(|digits| self.has_digits(*digits)).unwrap_or(Self::DIGITS_MAX + 1)
    }

    const DIGITS_MAX: u32 = 77;

    pub(crate) fn to_i128(self) -> Option<i128> {
        let bytes = self.to_be_bytes();
        let (high, low) = bytes.split_first_chunk::<16>()?;
        let low = i128::from_be_bytes(low.try_into().ok()?);
        let sign = if low < 0 { [0xff; 16] } else { [0; 16] };
        (*high == sign).then_some(low)
    }

    /// Two's complement, most significant byte first.
    pub(crate) fn to_be_bytes(self) -> [u8; 32] {
        let mut number = self;
        if self.negative {
            number.negate();
        }
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(number.limbs.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// The limbs' two's complement.
    fn negate(&mut self) {
        let mut carry = true;
        for limb in &mut self.limbs {
            let (flipped, over) = (!*limb).overflowing_add(u64::from(carry));
            (*limb, carry) = (flipped, over);
        }
    }

    fn times_power(mut self, power: u32) -> Option<Self> {
        if power > Self::DIGITS_MAX {
            return None;
        }
        for _ in 0..power {
            let mut carry = 0_u128;
            for limb in &mut self.limbs {
                let product = u128::from(*limb) * 10 + carry;
                *limb = low(product);
                carry = product >> 64;
            }
            if carry != 0 || self.limbs[3] >> 63 != 0 {
                return None;
            }
        }
        Some(self)
    }

    fn plus(mut self, digit: u64) -> Option<Self> {
        let mut carry = digit;
        for limb in &mut self.limbs {
            let (sum, over) = limb.overflowing_add(carry);
            (*limb, carry) = (sum, u64::from(over));
        }
        (carry == 0 && self.limbs[3] >> 63 == 0).then_some(self)
    }

    /// A tenth, if nothing is left over.
    fn tenth(mut self) -> Option<Self> {
        let mut rest = 0_u128;
        for limb in self.limbs.iter_mut().rev() {
            let number = rest << 64 | u128::from(*limb);
            *limb = low(number / 10);
            rest = number % 10;
        }
        (rest == 0).then_some(self)
    }
}

fn low(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aqueduct_core::Decimal;
    use proptest::prelude::*;

    use super::*;

    fn shown(number: Wide, scale: u32) -> String {
        Decimal::new(number.to_be_bytes().to_vec(), scale).to_string()
    }

    #[test]
    fn texts_are_exact_or_refused() {
        let read = |text: &str, scale| Wide::from_text(text.as_bytes(), scale).map(|it| shown(it, scale));
        for (text, scale, wanted) in [
            ("1.5", 2, Some("1.50")),
            ("-0.001", 3, Some("-0.001")),
            ("1.50", 1, Some("1.5")),
            ("1.55", 1, None),
            ("12e3", 0, Some("12000")),
            ("1.25e1", 1, Some("12.5")),
            ("1e-2", 2, Some("0.01")),
            ("100e-2", 0, Some("1")),
            ("0e999999999", 2, Some("0.00")),
            ("1e999999999", 2, None),
            ("1e99999999999999999999", 2, None),
            ("", 0, None),
            (".", 0, None),
            ("1.2.3", 0, None),
            ("x", 0, None),
        ] {
            assert_eq!(read(text, scale).as_deref(), wanted, "{text}");
        }
        let most = "9".repeat(76);
        assert_eq!(read(&most, 0).as_deref(), Some(&*most));
        assert!(Wide::from_text(most.as_bytes(), 0).unwrap().has_digits(76));
        assert!(!Wide::from_text(most.as_bytes(), 0).unwrap().has_digits(75));
        assert_eq!(read(&"9".repeat(78), 0), None);
    }

    proptest! {
        #[test]
        fn bytes_and_numbers_agree(number: i128, scale in 0..20_u32, more in 0..20_u32) {
            let wide = Wide::from_be_bytes(&number.to_be_bytes()).unwrap();
            prop_assert_eq!(wide.to_i128(), Some(number));
            prop_assert_eq!(shown(wide, 0), number.to_string());
            prop_assert_eq!(Wide::from_text(number.to_string().as_bytes(), 0), Some(wide));
            let wider = wide.rescale(scale, scale + more).unwrap();
            prop_assert_eq!(wider.rescale(scale + more, scale), Some(wide));
            prop_assert_eq!(wide.digits(), if number == 0 { 0 } else { number.unsigned_abs().ilog10() + 1 });
        }

        #[test]
        fn any_bytes_are_a_number_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(wide) = Wide::from_be_bytes(&bytes) {
                prop_assert_eq!(shown(wide, 0), Decimal::new(&bytes[..], 0).to_string());
            }
        }
    }
}
