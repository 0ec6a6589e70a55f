//! The partitioners keep the contract of `Partitioner`, on real JSON and on records nobody should send.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::{Json, JsonValue};
use aqueduct_core::testkit::{
    ScriptedRecord, check_fingerprints_differ, check_partitioner, fingerprint_of, record,
};
use aqueduct_core::{
    BatchBuilder, Converted, Converter, OwnedRecord, Partitioner, Permit, Record, RoutePath, Timestamp,
};
use aqueduct_partitioners::{
    ByField, ByKafkaPartition, ByKey, ByTime, HeaderTime, LayoutError, TimeFormat, by_fn, chain,
};

fn json(record: &Record<'_>) -> Option<JsonValue> {
    match Json::new().convert(record) {
        Ok(Converted::Emit(value)) => Some(value),
        _ => None,
    }
}

fn events() -> Vec<OwnedRecord> {
    let event = |service: &'static str, time: &str, at_ms: i64| {
        let text = format!(
            r#"{{"service": "{service}", "a": {{"b": [1]}}, "request": {{"host": "h/{service}", "status": 200}}, "time": "{time}"}}"#
        );
        record(ScriptedRecord::new(text).key(service).timestamp(Timestamp::Create(at_ms)))
    };
    vec![
        event("checkout", "2024-06-01T09:05:07+09:00", 1_717_200_307_089),
        event("search", "2024-03-10T07:30:00Z", 1_710_055_800_000),
        event("../..", "not a time", 0),
    ]
}

type Layout = Arc<dyn Partitioner<JsonValue>>;

/// All layouts that the tests go through.
fn layouts() -> Result<Vec<(&'static str, Layout)>, LayoutError> {
    let hourly = || ByTime::hourly("America/New_York");
    let by_length = by_fn("length/1", |_: &Record<'_>, value: &JsonValue, path: &mut RoutePath| {
        path.push_field("len", &value.as_bytes().len().to_string())
    });
    Ok(vec![
        ("kafka", Arc::new(ByKafkaPartition)),
        ("key", Arc::new(ByKey::new())),
        ("named key", Arc::new(ByKey::new().named("k").with_default("none"))),
        ("field", Arc::new(ByField::new("a")?)),
        ("field with default", Arc::new(ByField::new("a")?.with_default("null"))),
        ("field with a place of its own", Arc::new(ByField::new("a")?.missing_as("null")?)),
        ("field with floats", Arc::new(ByField::new("a")?.with_floats())),
        ("fields", Arc::new(ByField::new("service")?.and("request.host")?)),
        ("hourly", Arc::new(hourly()?)),
        ("daily", Arc::new(ByTime::daily("America/New_York")?)),
        ("hourly elsewhere", Arc::new(ByTime::hourly("Asia/Seoul")?)),
        ("quarters", Arc::new(ByTime::joda("YYYYMMddHHmm", "UTC")?.every(Duration::from_mins(15))?)),
        ("by field's millis", Arc::new(hourly()?.field("a", TimeFormat::Millis)?)),
        ("by field's seconds", Arc::new(hourly()?.field("a", TimeFormat::Seconds)?)),
        ("by field's text", Arc::new(hourly()?.field("time", TimeFormat::Iso8601)?)),
        ("by header's text", Arc::new(hourly()?.header("a", TimeFormat::Seconds))),
        ("by header's bytes", Arc::new(hourly()?.extract(HeaderTime::big_endian("a", TimeFormat::Seconds)?))),
        ("strftime", Arc::new(ByTime::strftime("%Y%m%d%H", "UTC")?)),
        ("names in English", Arc::new(ByTime::strftime("%Y/%b", "UTC")?)),
        ("names in German", Arc::new(ByTime::strftime("%Y/%b", "UTC")?.locale("de-DE")?)),
        ("Joda's names in German", Arc::new(ByTime::joda("YYYY/MMM", "UTC")?.locale("de-DE")?)),
        ("days in Korean", Arc::new(ByTime::joda("YYYY/EEEE", "UTC")?.locale("ko_KR")?)),
        ("by opening", Arc::new(hourly()?.segment_opened())),
        ("function", Arc::new(by_length)),
        ("field, then hour", Arc::new(chain((ByField::new("service")?, hourly()?)))),
        ("hour, then field", Arc::new(chain((hourly()?, ByField::new("service")?)))),
    ])
}

#[test]
fn every_layout_is_pure() {
    for (_, layout) in layouts().unwrap() {
        check_partitioner(&layout, &events(), json);
    }
}

#[test]
fn layouts_that_differ_have_fingerprints_that_differ() {
    let of = |layout: &Layout| fingerprint_of(|parts| layout.fingerprint(parts));
    check_fingerprints_differ(layouts().unwrap().iter().map(|(name, layout)| (*name, of(layout))));
}

#[test]
fn schemaless_json_goes_by_field_and_time() {
    let layout = chain((
        ByField::new("service").unwrap().and("request.host").unwrap(),
        ByTime::hourly("Asia/Seoul").unwrap().field("time", TimeFormat::Iso8601).unwrap(),
    ));
    let routes = events().iter().map(|event| route(&layout, event)).collect::<Vec<_>>();
    assert_eq!(
        routes,
        [
            Ok("service=checkout/host=h%2Fcheckout/year=2024/month=06/day=01/hour=09".to_owned()),
            Ok("service=search/host=h%2Fsearch/year=2024/month=03/day=10/hour=16".to_owned()),
            Err("invalid-timestamp: field time is no ISO-8601 time (format: iso-8601)".to_owned()),
        ]
    );
}

fn route(layout: &impl Partitioner<JsonValue>, event: &OwnedRecord) -> Result<String, String> {
    let mut builder = BatchBuilder::new(event.lane.clone(), 0);
    builder.push(event.offset, event.timestamp, event.key.as_deref(), event.value.as_deref(), []);
    let batch = builder.build(Permit::unlimited());
    let record = batch.get(0).ok_or("no record")?;
    let value = json(&record).ok_or("no json")?;
    let mut path = RoutePath::default();
    match layout.route(&record, &value, &mut path) {
        Ok(()) => Ok(path.as_str().to_owned()),
        Err(poison) => Err(poison.to_string()),
    }
}
