//! Decimals as text, exactly: a value that a column cannot hold with all its digits is refused, never rounded.

/// A number in the spelling BigQuery reads: a sign, digits, a point and digits, no exponent, no zeros that say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    negative: bool,
    /// Without zeros in front; empty for zero.
    whole: String,
    /// Without zeros at the end.
    fraction: String,
}

/// The largest exponent that is looked at; beyond it no column holds the number, unless it is zero.
const EXPONENT_MAX: i32 = 400;
/// The longest text that is looked at, in bytes.
const TEXT_MAX: usize = 1024;

impl Plain {
    /// Reads `-12.5`, `1e3`, `.5`, `+7`; `None` if it is no such number, or far too long for one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        let (digits, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (rest.get(..at)?, exponent(rest.get(at + 1..)?)?),
            None => (rest, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let mut all = [whole, fraction].concat();
        if all.bytes().all(|byte| byte == b'0') {
            return Some(Self { negative: false, whole: String::new(), fraction: String::new() });
        }
        if exponent.abs() > EXPONENT_MAX {
            return None;
        }
        // Where the point goes among all digits; outside of them there are zeros between.
        let mut point = i32::try_from(whole.len()).ok()? + exponent;
        if point < 0 {
            all.insert_str(0, &"0".repeat(usize::try_from(-point).ok()?));
            point = 0;
        }
        let point = usize::try_from(point).ok()?;
        while all.len() < point {
            all.push('0');
        }
        let (whole, fraction) = all.split_at(point);
        Some(Self {
            negative,
            whole: whole.trim_start_matches('0').to_owned(),
            fraction: fraction.trim_end_matches('0').to_owned(),
        })
    }

    /// Whether it has at most so many digits before and behind the point.
    pub(crate) fn fits(&self, before: u64, behind: u64) -> bool {
        self.whole.len() as u64 <= before && self.fraction.len() as u64 <= behind
    }

    /// Whether a `BIGNUMERIC` holds it: of a thirty-ninth digit it has a part.
    pub(crate) fn fits_big(&self) -> bool {
        // 2^255 - 1, and 2^255 for negative numbers, over 10^38.
        const WHOLE: &str = "578960446186580977117854925043439539266";
        const POSITIVE: &str = "34992332820282019728792003956564819967";
        const NEGATIVE: &str = "34992332820282019728792003956564819968";
        if self.fraction.len() > 38 || self.whole.len() < 39 {
            return self.fits(38, 38);
        }
        let most = if self.negative { NEGATIVE } else { POSITIVE };
        // Digits behind the point compare like texts.
        self.whole.len() == 39 && (self.whole.as_str(), self.fraction.as_str()) <= (WHOLE, most)
    }

    /// The number, if it is whole and fits.
    pub(crate) fn to_i64(&self) -> Option<i64> {
        if !self.fraction.is_empty() {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        format!("{sign}{whole}").parse().ok()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(if self.whole.is_empty() { b"0" } else { self.whole.as_bytes() });
        if !self.fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(self.fraction.as_bytes());
        }
    }
}

fn exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // One that is too long for a number is too large or too small for a column.
    Some(text.parse().unwrap_or(i32::MAX).clamp(-EXPONENT_MAX - 1, EXPONENT_MAX + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Option<String> {
        let mut out = Vec::new();
        Plain::parse(text)?.put(&mut out);
        String::from_utf8(out).ok()
    }

    #[test]
    fn every_spelling_becomes_the_plain_one() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("0e999999999999", "0"),
            ("007.50", "7.5"),
            ("+1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("123e-2", "1.23"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-12.5e1", "-125"),
        ] {
            assert_eq!(plain(text).as_deref(), Some(expected), "{text}");
        }
        for bad in [
            "",
            "-",
            ".",
            "1e",
            "e5",
            "1.2.3",
            "0x1",
            "1_000",
            "NaN",
            " 1",
            "1e401",
            "1e-401",
            "1e99999999999",
        ] {
            assert_eq!(plain(bad), None, "{bad:?}");
        }
        assert_eq!(plain(&"1".repeat(TEXT_MAX)).map(|text| text.len()), Some(TEXT_MAX));
        assert_eq!(plain(&"1".repeat(TEXT_MAX + 1)), None);
    }

    #[test]
    fn limits_are_bigquerys() {
        let numeric = |text: &str| Plain::parse(text).unwrap().fits(29, 9);
        assert!(numeric(&format!("-{}.{}", "9".repeat(29), "9".repeat(9))));
        assert!(!numeric(&"9".repeat(30)));
        assert!(!numeric("0.0000000001"));
        assert!(numeric("0.1000000000"));
        let big = |text: &str| Plain::parse(text).unwrap().fits_big();
        let most = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
        let least = "-578960446186580977117854925043439539266.34992332820282019728792003956564819968";
        assert!(big(most) && big(least) && big(&"9".repeat(38)));
        assert!(!big(&most.replace("967", "968")) && !big(&least.replace("968", "969")));
        assert!(!big("578960446186580977117854925043439539267") && !big(&"9".repeat(40)));
        assert!(!big(&format!("0.{}1", "0".repeat(38))));
    }

    proptest! {
        #[test]
        fn whole_numbers_are_read_as_they_are(number: i64) {
            prop_assert_eq!(plain(&number.to_string()), Some(number.to_string()));
            prop_assert_eq!(Plain::parse(&number.to_string()).unwrap().to_i64(), Some(number));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            drop(Plain::parse(&text));
        }

        #[test]
        fn the_plain_spelling_is_the_same_number(text in "-?[0-9]{1,12}(\\.[0-9]{1,12})?(e-?[0-9]{1,2})?") {
            let again = plain(&text).unwrap();
            let float = |text: &str| text.parse::<f64>().unwrap().abs().to_bits();
            prop_assert_eq!(float(&again), float(&text));
            prop_assert_eq!(plain(&again), Some(again));
        }
    }
}
