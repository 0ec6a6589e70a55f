use aqueduct_core::{Partitioner, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::tests::{Sample, Tree, fingerprint};
use crate::{ByTime, FieldTime};
use aqueduct_core::{FieldPath, FieldValue};

/// 2024-06-01 09:05:07.089 in Seoul.
const AT_MS: i64 = 1_717_200_307_089;

fn exact<E>(extract: E) -> ByTime<E> {
    ByTime::joda("YYYY-MM-dd HH:mm:ss.SSS", "Asia/Seoul").unwrap().extract(extract)
}

fn route(extract: HeaderTime, headers: &[(&'static str, Option<&[u8]>)]) -> Result<String, Poison> {
    let headers = headers.iter().map(|(name, value)| (*name, value.map(<[u8]>::to_vec))).collect();
    Sample { headers, ..Sample::default() }.route(&exact(extract), &())
}

#[test]
fn headers_hold_text_or_eight_bytes() {
    let text = |format| HeaderTime::text("sent-at", format);
    let bytes = |format| HeaderTime::big_endian("sent-at", format).unwrap();
    for (extract, value, expected) in [
        (text(TimeFormat::Iso8601), &b"2024-06-01T00:05:07.089Z"[..], "2024-06-01 09:05:07.089"),
        (text(TimeFormat::Iso8601), b"2024-05-31T20:05:07-04:00", "2024-06-01 09:05:07.000"),
        (text(TimeFormat::Millis), b"1717200307089", "2024-06-01 09:05:07.089"),
        (text(TimeFormat::Seconds), b"1717200307.25", "2024-06-01 09:05:07.250"),
        // Eight digits are text where text is stated, and not the number their bytes spell.
        (text(TimeFormat::Seconds), b"17172003", "1970-07-19 03:00:03.000"),
        (bytes(TimeFormat::Millis), &AT_MS.to_be_bytes(), "2024-06-01 09:05:07.089"),
        (bytes(TimeFormat::Nanos), &(AT_MS * 1_000_000 + 1).to_be_bytes(), "2024-06-01 09:05:07.089"),
        (bytes(TimeFormat::Seconds), &(-1_i64).to_be_bytes(), "1970-01-01 08:59:59.000"),
    ] {
        assert_eq!(route(extract.clone(), &[("sent-at", Some(value))]).unwrap(), expected, "{extract:?}");
    }
    let local = text(TimeFormat::Iso8601).without_offset_in("Asia/Seoul").unwrap();
    assert_eq!(route(local, &[("sent-at", Some(b"2024-06-01T09:05"))]).unwrap(), "2024-06-01 09:05:00.000");
}

#[test]
fn the_last_header_of_a_name_counts() {
    let by = || HeaderTime::text("at", TimeFormat::Seconds);
    let found = route(by(), &[("at", Some(b"0")), ("AT", None), ("at", Some(b"60")), ("later", Some(b"61"))]);
    assert_eq!(found.unwrap(), "1970-01-01 09:01:00.000");
    let poison = route(by(), &[("at", Some(b"0")), ("at", None)]).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::MissingField, "a null overrides as well");
}

#[test]
fn unusable_headers_are_poisons_that_name_the_header_but_not_the_value() {
    let text = HeaderTime::text("sent-at", TimeFormat::Millis);
    let bytes = HeaderTime::big_endian("sent-at", TimeFormat::Seconds).unwrap();
    for (extract, value, reason) in [
        (&text, None, PoisonReason::MissingField),
        (&text, Some(&b"hunter2"[..]), PoisonReason::InvalidTimestamp),
        (&text, Some(b""), PoisonReason::InvalidTimestamp),
        (&text, Some(b"\xff\xfe"), PoisonReason::InvalidTimestamp),
        (&bytes, Some(b"hunter2"), PoisonReason::InvalidTimestamp),
        (&bytes, Some(b"hunter200"), PoisonReason::InvalidTimestamp),
        (&bytes, Some(b""), PoisonReason::InvalidTimestamp),
        (&bytes, Some(&i64::MAX.to_be_bytes()), PoisonReason::InvalidTimestamp),
    ] {
        let poison = route(extract.clone(), &[("sent-at", value)]).unwrap_err();
        assert_eq!(poison.reason(), reason, "{value:?}");
        assert!(poison.detail().contains("header sent-at"), "{poison}");
        assert!(!poison.detail().contains("hunter2"), "{poison}");
    }
    assert_eq!(route(text, &[]).unwrap_err().reason(), PoisonReason::MissingField);
}

#[test]
fn text_in_bytes_is_an_error_when_the_layout_is_made() {
    let error = HeaderTime::big_endian("sent-at", TimeFormat::Iso8601).unwrap_err();
    assert_eq!(error, LayoutError::TextInBytes { header: "sent-at".to_owned() });
    let error = HeaderTime::text("at", TimeFormat::Iso8601).without_offset_in("Mars/Olympus").unwrap_err();
    assert_eq!(error, LayoutError::UnknownZone { zone: "Mars/Olympus".to_owned() });
}

#[test]
fn every_choice_is_part_of_the_identity() {
    let text = |name: &str, format| HeaderTime::text(name, format);
    let all = [
        text("a", TimeFormat::Millis),
        text("b", TimeFormat::Millis),
        text("a", TimeFormat::Seconds),
        text("a", TimeFormat::Iso8601),
        text("a", TimeFormat::Iso8601).without_offset_in("UTC").unwrap(),
        text("a", TimeFormat::Iso8601).without_offset_in("Asia/Seoul").unwrap(),
        HeaderTime::big_endian("a", TimeFormat::Millis).unwrap(),
    ];
    let digests: Vec<u64> = all.into_iter().map(|by| fingerprint::<()>(&exact(by)).digest()).collect();
    assert!(digests.iter().enumerate().all(|(index, digest)| !digests[..index].contains(digest)));
}

/// The route of one instant, however it comes.
fn routes(ms: i64) -> Vec<String> {
    let field = |format| exact(FieldTime::new(FieldPath::parse("at").unwrap(), format));
    let iso = jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
    let mut routes = Vec::new();
    let mut add = |by: Box<dyn Partitioner<Tree>>, value: FieldValue<'static>, header: &[u8]| {
        let sample = Sample {
            headers: vec![("at", Some(header.to_vec()))],
            timestamp: Timestamp::Create(ms),
            ..Sample::default()
        };
        routes.push(sample.route(&by, &Tree::new(&[("at", value)])).unwrap());
    };
    add(Box::new(exact(crate::RecordTimestamp)), FieldValue::Null, b"");
    add(Box::new(field(TimeFormat::Iso8601)), FieldValue::Str(iso.clone().into()), b"");
    add(Box::new(exact(HeaderTime::text("at", TimeFormat::Iso8601))), FieldValue::Null, iso.as_bytes());
    let units = [(TimeFormat::Millis, 1), (TimeFormat::Micros, 1_000), (TimeFormat::Nanos, 1_000_000)];
    let seconds = (ms % 1_000 == 0).then_some((TimeFormat::Seconds, ms / 1_000));
    for (format, count) in units.map(|(format, factor)| (format, ms * factor)).into_iter().chain(seconds) {
        let text = count.to_string();
        add(Box::new(field(format)), FieldValue::I64(count), b"");
        add(Box::new(field(format)), FieldValue::U64(count.unsigned_abs()), b"");
        add(Box::new(field(format)), FieldValue::Str(text.clone().into()), b"");
        add(Box::new(exact(HeaderTime::text("at", format))), FieldValue::Null, text.as_bytes());
        let bytes = HeaderTime::big_endian("at", format).unwrap();
        add(Box::new(exact(bytes)), FieldValue::Null, &count.to_be_bytes());
    }
    routes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_instant_has_one_route_in_whatever_unit_it_comes(ms in 0_i64..9_223_372_036_854) {
        for ms in [ms, ms - ms % 1_000] {
            let routes = routes(ms);
            prop_assert!(routes.len() >= 18);
            prop_assert!(routes.iter().all(|route| *route == routes[0]), "{:?}", routes);
        }
    }

    #[test]
    fn any_header_is_a_time_or_a_poison(value: Option<Vec<u8>>) {
        for format in [TimeFormat::Iso8601, TimeFormat::Seconds, TimeFormat::Nanos] {
            let _route = route(HeaderTime::text("at", format), &[("at", value.as_deref())]);
        }
        let _route = route(HeaderTime::big_endian("at", TimeFormat::Seconds).unwrap(), &[("at", value.as_deref())]);
    }
}
