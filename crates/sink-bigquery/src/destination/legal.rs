//! Which names BigQuery takes, and what is made of those it does not take.
//!
//! A name of a table has letters, marks, numbers, connectors (`_`), dashes and spaces of any script, up to 1024 bytes of UTF-8, and
//! `a` is another table than `A` (<https://cloud.google.com/bigquery/docs/tables#table_naming>). A name of a dataset has ASCII
//! letters, digits and `_` (<https://cloud.google.com/bigquery/docs/datasets#dataset-naming>).
//!
//! A legal name is kept. Any other gets `_` for each character that cannot be, and an ending that is made of what it was:
//! `shop.orders` becomes `shop_orders_x` and sixteen hexadecimal digits of its SHA-256. A legal name that has such an ending gets
//! another one, so that nobody can pose as a name that was changed. Two different texts meet only if two hashes do. Rejected: `_`
//! alone (`a.b` and `a_b` are one table then, which Kafka Connect's `sanitizeTopics` does), and escapes of each character (names
//! nobody can read).

use std::sync::LazyLock;

use regex::Regex;
use ring::digest;

use super::text::Text;

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Dataset,
    Table,
}

/// The longest name that is kept, in bytes: that of the longest topic. Longer ones are possible, but no route holds them.
const KEPT_MAX: usize = 249;
/// How much of a name that is changed is kept in front of its ending, in bytes.
const STEM_MAX: usize = 160;
const ENDING: &str = "_x";
/// Hexadecimal digits behind [`ENDING`].
const DIGITS: usize = 16;

/// Outside of ASCII. The class cannot be wrong, which a test shows; without it nothing would be legal.
static OF_ANY_SCRIPT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}]*\z").ok());

/// Whether every character may be in such a name; an empty name is not looked for here.
pub(crate) fn is_legal(part: Part, text: &str) -> bool {
    let plain = |byte: u8| match part {
        Part::Dataset => byte.is_ascii_alphanumeric() || byte == b'_',
        Part::Table => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b' '),
    };
    if text.is_ascii() || part == Part::Dataset {
        return text.bytes().all(plain);
    }
    OF_ANY_SCRIPT.as_ref().is_some_and(|legal| legal.is_match(text))
}

/// Appends the legal name of `text`: the same for the same text, another for another.
pub(super) fn put_distinct<const N: usize>(part: Part, text: &str, out: &mut Text<N>) {
    let is_kept = !text.is_empty() && text.len() <= KEPT_MAX && is_legal(part, text) && !is_changed(text);
    if is_kept {
        out.push(text);
        return;
    }
    put_replaced(part, text.get(..text.floor_char_boundary(STEM_MAX)).unwrap_or_default(), out);
    out.push(ENDING);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    for byte in hash.as_ref().iter().take(DIGITS / 2) {
        for nibble in [byte >> 4, byte & 15] {
            out.push(HEX.get(usize::from(nibble)..=usize::from(nibble)).unwrap_or_default());
        }
    }
}

const HEX: &str = "0123456789abcdef";

/// Appends `text` with `_` for each character that cannot be.
fn put_replaced<const N: usize>(part: Part, text: &str, out: &mut Text<N>) {
    for character in text.chars() {
        let mut bytes = [0; 4];
        let one = &*character.encode_utf8(&mut bytes);
        out.push(if is_legal(part, one) { one } else { "_" });
    }
}

/// Whether a name looks like one that was changed.
fn is_changed(text: &str) -> bool {
    let Some((stem, digits)) = text.len().checked_sub(DIGITS).and_then(|at| text.split_at_checked(at)) else {
        return false;
    };
    stem.ends_with(ENDING) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// As Kafka Connect's `sanitizeTopics` has it: everything but ASCII letters, digits and `_` becomes `_`.
pub(super) fn connect(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distinct(part: Part, text: &str) -> String {
        let mut out = Text::<1024>::default();
        put_distinct(part, text, &mut out);
        out.get().unwrap().to_owned()
    }

    #[test]
    fn legal_names_are_kept() {
        // Google's own examples are the last four.
        for name in [
            "orders",
            "ORDERS",
            "orders-v1",
            "_o",
            "1",
            "a_x12",
            "table 01",
            "ग्राहक",
            "00_お客様",
            "étudiant-01",
        ] {
            assert_eq!(distinct(Part::Table, name), name);
        }
        assert_eq!(distinct(Part::Dataset, "sales_EU"), "sales_EU");
    }

    #[test]
    fn others_get_an_ending_of_their_own() {
        // Golden: these are names of tables that exist.
        assert_eq!(distinct(Part::Table, "shop.orders"), "shop_orders_x7458f44cdbf1d509");
        assert_eq!(distinct(Part::Dataset, "sales-eu"), "sales_eu_xd47ed7b0e20d6c35");
        for name in ["a.b", "a:b", "a/b", "a=b", "", "🦀", "a`b", "a\nb", "a\u{200d}b", "Ⓐ"] {
            let changed = distinct(Part::Table, name);
            assert!(is_legal(Part::Table, &changed) && is_changed(&changed), "{changed}");
        }
        let posing = distinct(Part::Table, "a.b");
        assert_ne!(distinct(Part::Table, &posing), posing, "nobody poses as a changed name");
        let [longest, long, longer] = [0, 1, 2].map(|more| "x".repeat(KEPT_MAX + more));
        assert_eq!(distinct(Part::Table, &longest), longest);
        assert_ne!(distinct(Part::Table, &long), distinct(Part::Table, &longer));
        assert_eq!(distinct(Part::Table, &longer).len(), STEM_MAX + ENDING.len() + DIGITS);
    }

    #[test]
    fn connects_names_meet() {
        assert_eq!([connect("a.b"), connect("a-b"), connect("a_b")], ["a_b"; 3].map(String::from));
    }

    proptest! {
        #[test]
        fn two_texts_never_meet(one in "[a-c._/x0é🦀]{0,40}|\\PC*", other in "[a-c._/x0é🦀]{0,40}|\\PC*") {
            for part in [Part::Dataset, Part::Table] {
                let names = [&one, &other].map(|text| distinct(part, text));
                prop_assert!(names.iter().all(|name| is_legal(part, name) && !name.is_empty() && name.len() <= KEPT_MAX));
                prop_assert_eq!(names[0] == names[1], one == other);
                // Nor by taking the other's name.
                prop_assert_eq!(distinct(part, &names[0]) == names[1], names[0] == other);
            }
        }
    }
}
