//! Names of columns.
//!
//! <https://cloud.google.com/bigquery/docs/schemas#column_names>: ASCII letters, digits and `_`, no digit in front, at most 300
//! characters, none of certain prefixes, and no two that differ by case alone. The flexible names that document has beside these
//! need an annotation in the protobuf type of rows, and are not used.

use xxhash_rust::xxh3::xxh3_64;

use super::TableSchema;

/// Names that BigQuery keeps for itself begin like this, in any case. `_CHANGE_` is that of the columns of change data capture
/// (<https://cloud.google.com/bigquery/docs/change-data-capture>).
const RESERVED: [&str; 7] =
    ["_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_"];

/// Whether it is made of what a name may be made of.
pub(crate) fn is_legal(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether BigQuery keeps it for itself.
pub(crate) fn is_reserved(name: &str) -> bool {
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|of| of.eq_ignore_ascii_case(prefix));
    RESERVED.iter().any(begins)
}

/// A name for a column of a field of this name: itself if it may be one. Any other gets `_` for what is not allowed, and eight
/// digits of its hash behind it: so two names that look alike stay two, and a name is spelled the same in every schema, whatever
/// stands beside it.
pub(crate) fn legal(name: &str) -> Option<String> {
    if is_legal(name) && !is_reserved(name) && name.len() <= TableSchema::NAME_MAX {
        return None;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut made: String = name.chars().take(TableSchema::NAME_MAX - 10).map(plain).collect();
    if made.is_empty() || made.starts_with(|c: char| c.is_ascii_digit()) {
        made.insert(0, '_');
    }
    if is_reserved(&made) {
        made.insert(0, 'f');
    }
    let hash = xxh3_64(name.as_bytes()) & 0xffff_ffff;
    Some(format!("{made}_{hash:08x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_look_alike_stay_apart() {
        assert_eq!(legal("a_b"), None);
        let made: Vec<_> =
            ["a-b", "a.b", "a b", "1a", "", "_TABLE_x", "?TABLE_x"].map(|name| legal(name).unwrap()).into();
        assert_eq!(made[0], "a_b_a89ebe1f", "golden: columns of tables that exist are called so");
        assert!(made[3].starts_with("_1a_") && made[5].starts_with("f_TABLE_x_"), "{made:?}");
        for (index, name) in made.iter().enumerate() {
            assert!(is_legal(name) && !is_reserved(name) && !made[..index].contains(name), "{made:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_becomes_a_legal_one(name in "\\PC{0,400}") {
            let column = legal(&name).unwrap_or(name);
            prop_assert!(is_legal(&column) && !is_reserved(&column) && column.len() <= TableSchema::NAME_MAX, "{}", column);
        }
    }
}
