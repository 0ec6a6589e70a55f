//! Texts of a configuration that are no layout, and values that are no levels.

use aqueduct_core::{
    BatchBuilder, FieldPath, FieldValue, Fields, Offset, Partitioner, Permit, Poison, PoisonReason,
    RoutePath, Timestamp, TopicPartition,
};
use aqueduct_partitioners::{ByField, ByKey, ByTime, FieldTime, LayoutError, TimeFormat};
use proptest::prelude::*;

/// A value whose every field holds the same text.
struct Everywhere<'a>(&'a str);

impl Fields for Everywhere<'_> {
    fn field(&self, _: &FieldPath) -> Option<FieldValue<'_>> {
        Some(FieldValue::Str(self.0.into()))
    }
}

fn route<T>(layout: &impl Partitioner<T>, key: &[u8], value: &T) -> Result<String, Poison> {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 0);
    builder.push(Offset::ZERO, Timestamp::Create(1_717_200_307_089), Some(key), None, []);
    let batch = builder.build(Permit::unlimited());
    let mut path = RoutePath::default();
    layout.route(&batch.get(0).unwrap(), value, &mut path).map(|()| path.as_str().to_owned())
}

/// An error says what is wrong on one line; a layout gives a route or a poison.
fn check<E>(layout: Result<ByTime<E>, LayoutError>) -> Result<(), TestCaseError>
where
    ByTime<E>: Partitioner<()>,
{
    match layout {
        Ok(layout) => drop(route(&layout, b"", &())),
        Err(error) => prop_assert!(!error.to_string().contains(['\n', '\r'])),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_an_error(text in prop_oneof![any::<String>(), "[YMdHmsS']{0,6}.{0,4}"], zone in "UTC|\\+09:00|\\PC*") {
        for zone in [&*zone, "UTC"] {
            check(ByTime::joda(&text, zone))?;
            check(ByTime::strftime(&text, zone))?;
        }
    }

    #[test]
    fn any_text_is_a_locale_or_an_error(locale in prop_oneof![any::<String>(), "[a-z]{2,3}([-_][A-Z][a-z]{3})?([-_][A-Z]{2})?"]) {
        check(ByTime::strftime("%A/%B", "UTC").and_then(|by| by.locale(&locale)))?;
    }

    #[test]
    fn any_text_is_a_zone_or_an_error(
        zone in prop_oneof![any::<String>(), "[+-]?[0-9:Z]{0,9}", "(Etc/)?[A-Z]{3}[+-][0-9]{1,3}", "[A-Za-z_/]{0,12}", "<[A-Z]+>[0-9]{1,4},M[0-9.]+"],
    ) {
        check(ByTime::daily(&zone))?;
        let path = FieldPath::parse("a").unwrap();
        prop_assert_eq!(FieldTime::new(path, TimeFormat::Iso8601).without_offset_in(&zone).is_ok(), ByTime::daily(&zone).is_ok());
    }

    #[test]
    fn any_texts_are_a_layout_by_field_or_an_error(path: String, name: String, default: String, value: String) {
        match ByField::named(name.clone(), &path).and_then(|by| by.and(&path)) {
            Ok(by) => {
                let by = by.with_default(default);
                if let Ok(route) = route(&by, b"", &Everywhere(&value)) {
                    prop_assert_eq!(route.split('/').count(), 2);
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains(['\n', '\r'])),
        }
    }

    #[test]
    fn any_key_is_one_level_or_a_poison(key: Vec<u8>, name: Option<String>) {
        let by = name.map_or_else(ByKey::new, |name| ByKey::new().named(name));
        if let Ok(route) = route(&by, &key, &()) {
            prop_assert!(!route.contains('/') && !route.is_empty());
        }
    }

    /// What is refused is said by place and never by value.
    #[test]
    fn no_poison_quotes_the_value(around in "[0-9T:+./Z-]{0,12}", more in "[a/]{0,300}") {
        let value = format!("{around}hunter2{more}");
        let mut path = RoutePath::default();
        let layouts = [
            route(&ByField::new("a").unwrap(), b"", &Everywhere(&value)),
            route(&ByTime::daily("UTC").unwrap().field("a", TimeFormat::Iso8601).unwrap(), b"", &Everywhere(&value)),
            route(&ByTime::daily("UTC").unwrap().field("a", TimeFormat::Millis).unwrap(), b"", &Everywhere(&value)),
            route(&ByKey::new().named("k"), value.as_bytes(), &()),
            path.push_levels(&value.repeat(60)).map(|()| String::new()),
        ];
        for poison in layouts.into_iter().filter_map(Result::err) {
            prop_assert!(!format!("{poison} {poison:?}").contains("hunter2"), "{}", poison);
        }
    }
}

/// A value of megabytes is no level and no time, and says so without being followed.
#[test]
fn values_of_megabytes_are_poisons() {
    for piece in ["9", "0", "-", "/", "2024-06-01T00:00:00Z", "[UTC]", "P1Y", "\u{e9}", " "] {
        let value = piece.repeat((4 << 20) / piece.len());
        let by_field = route(&ByField::new("a").unwrap(), b"", &Everywhere(&value));
        assert_eq!(by_field.unwrap_err().reason(), PoisonReason::InvalidRoute, "{piece}");
        let by_key = route(&ByKey::new(), value.as_bytes(), &());
        assert_eq!(by_key.unwrap_err().reason(), PoisonReason::InvalidRoute, "{piece}");
        for format in [TimeFormat::Iso8601, TimeFormat::Seconds, TimeFormat::Nanos] {
            let by_time = ByTime::daily("UTC").unwrap().field("a", format).unwrap();
            // As many zeros as there are make a zero.
            match route(&by_time, b"", &Everywhere(&value)) {
                Ok(route) => assert_eq!((piece, &*route), ("0", "year=1970/month=01/day=01")),
                Err(poison) => assert_eq!(poison.reason(), PoisonReason::InvalidTimestamp, "{piece}"),
            }
        }
    }
}
