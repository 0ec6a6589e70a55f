//! The layout of the record's key.

use aqueduct_core::{Fingerprint, Partitioner, Poison, PoisonReason, Record, RoutePath};

/// One level with the record's key as text: `<key>`, or `<name>=<key>` with [`named`](Self::named).
///
/// The number of routes is the number of keys that a segment holds, so this suits keys that repeat. Keys are escaped
/// and stay one level. A record without a key, or with one that is not UTF-8, is a poison unless
/// [`with_default`](Self::with_default) gives it a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByKey {
    name: Option<String>,
    default: Option<String>,
}

impl ByKey {
    /// The key alone; records without a usable one are poisons.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the level as `name=<key>`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Stands in for a key that is missing or not UTF-8. A key that spells the same goes to the same route.
    #[must_use]
    pub fn with_default(mut self, default: impl Into<String>) -> Self {
        self.default = Some(default.into());
        self
    }
}

impl<T: ?Sized> Partitioner<T> for ByKey {
    fn route(&self, record: &Record<'_>, _value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        let key = match (record.key().map(std::str::from_utf8), &self.default) {
            (Some(Ok(key)), _) => key,
            (_, Some(default)) => default,
            (None, None) => {
                return Err(Poison::new(
                    PoisonReason::MissingField,
                    "the record has no key; give such records a place with `with_default`",
                ));
            }
            (Some(Err(error)), None) => {
                let at = error.valid_up_to();
                return Err(Poison::new(
                    PoisonReason::InvalidField,
                    format!(
                        "the key is not utf-8 at byte {at}; give such records a place with `with_default`"
                    ),
                ));
            }
        };
        match &self.name {
            Some(name) => path.push_field(name, key),
            None => path.push(key),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", format_args!("key/1 name={:?} default={:?}", self.name, self.default));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Sample;

    fn with_key(key: Option<&[u8]>) -> Sample {
        Sample { key: key.map(<[u8]>::to_vec), ..Sample::default() }
    }

    #[test]
    fn the_level_is_the_key() {
        let route = |key: &[u8], by: &ByKey| with_key(Some(key)).route(by, &()).unwrap();
        assert_eq!(route(b"customer-7", &ByKey::new()), "customer-7");
        assert_eq!(route(b"customer-7", &ByKey::new().named("customer")), "customer=customer-7");
        assert_eq!(route(b"../a=b/c", &ByKey::new()), "..%2Fa=b%2Fc");
        assert_eq!(route(b"..", &ByKey::new()), "%2E%2E");
        assert_eq!(route(b"a=b", &ByKey::new().named("k")), "k=a%3Db");
    }

    #[test]
    fn unusable_keys_are_poisons_or_have_a_place() {
        let reason = |key: Option<&[u8]>| with_key(key).route(&ByKey::new(), &()).unwrap_err().reason();
        assert_eq!(reason(None), PoisonReason::MissingField);
        assert_eq!(reason(Some(b"\xff")), PoisonReason::InvalidField);
        assert_eq!(reason(Some(&[b'x'; 300])), PoisonReason::InvalidRoute);
        for key in [None, Some(&b"\xff"[..])] {
            assert_eq!(with_key(key).route(&ByKey::new().with_default("none"), &()).unwrap(), "none");
        }
    }
}
