//! What is sent: tokens, sizes, the order of requests.

use aqueduct_converters::JsonValue;
use aqueduct_core::{
    BatchBuilder, Class, Envelope, Offset, Permit, Poison, PoisonReason, RoutePath, RouteTable, Timestamp,
};
use aqueduct_sink_bigquery::Credentials;
use aqueduct_sink_bigquery::testkit::{FakeCall, FakeLimits};

use crate::support::{Process, Segment, builder, fake, lane, one_table, table, told, visible};

#[tokio::test]
async fn every_call_carries_the_token() {
    let fake = fake().await;
    fake.require_token("open sesame");
    let process = Process::start(builder(&fake).credentials(Credentials::Token("open sesame".into()))).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    let intent = segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    assert!(process.recover(&intent, one_table).await.unwrap().is_none());
    assert_eq!(visible(&fake, "orders"), [0, 1, 2, 3, 4]);
    for credentials in [Credentials::Anonymous, Credentials::Token("guessed".into())] {
        let stranger = Process::start(builder(&fake).credentials(credentials)).await;
        let mut segment = stranger.fill(5, 9, None, one_table).await;
        let error = segment.stage().await.unwrap_err();
        assert_eq!(error.class(), Class::Unknown, "a new token may help, so it is tried a few times");
        assert!(!format!("{error:?} {}", told(&error)).contains("guessed"), "{error:?}");
    }
}

#[tokio::test]
async fn requests_stay_below_the_limit_and_are_no_more_than_needed() {
    let fake = fake().await;
    // A request has a little more than its rows: names, the first one also the columns.
    fake.set_limits(FakeLimits::default().without_quotas().with_request_bytes(2_000));
    let process = Process::start(builder(&fake).append_bytes(1_000)).await;
    let mut segment = process.fill(0, 200, None, one_table).await;
    segment.stage().await.unwrap();
    let published = segment.publish().await.unwrap();
    assert_eq!(visible(&fake, "orders"), (0..200).collect::<Vec<_>>());
    let bytes = published.objects[0].bytes;
    assert!(fake.calls(FakeCall::AppendRows) <= bytes / 800 + 2, "{bytes} bytes");
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), 1);
}

#[tokio::test]
async fn a_request_over_the_services_limit_is_an_error_and_not_a_letter() {
    let fake = fake().await;
    fake.set_limits(FakeLimits::default().without_quotas().with_request_bytes(500));
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 50, None, one_table).await;
    let error = segment.stage().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(told(&error).contains("too large"), "{}", told(&error));
    assert!(segment.late.is_empty());
}

/// Appends one row with a text of this length.
fn append(segment: &mut Segment, offset: i64, length: usize) -> Result<(), Poison> {
    let text = format!(r#"{{"n": {offset}, "text": "{}"}}"#, "x".repeat(length));
    let mut batch = BatchBuilder::new(lane(), text.len());
    batch.push(Offset::new(offset), Timestamp::None, None, Some(text.as_bytes()), []);
    let batch = batch.build(Permit::unlimited());
    let (path, record) = (RoutePath::new(0), batch.get(0).unwrap());
    let value = JsonValue::parse(record.value_bytes().unwrap()).unwrap();
    let route = RouteTable::new().intern(&path);
    segment.writer.append(Envelope { record: &record, route, path: &path, value })
}

/// A request has room for it with everything around it, several of them in turn.
#[tokio::test]
async fn the_largest_row_is_written_and_one_byte_more_is_a_letter() {
    const ROW_MAX: usize = 9_000_000;
    let fake = fake().await;
    let slow = std::time::Duration::from_mins(1);
    let process = Process::start(builder(&fake).call_timeout(slow).append_timeout(slow)).await;
    let mut segment = process.begin(0, 5, None).await.unwrap().unwrap();
    append(&mut segment, 0, 100).unwrap();
    // Twelve bytes in the spool beside the row; the length of a long text takes three more than that of one of a hundred.
    let overhead = usize::try_from(segment.writer.encoded_bytes()).unwrap() - 12 - 100 + 3;
    append(&mut segment, 1, ROW_MAX - overhead).unwrap();
    let poison = append(&mut segment, 2, ROW_MAX - overhead + 1).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
    append(&mut segment, 3, ROW_MAX - overhead).unwrap();
    append(&mut segment, 4, 100).unwrap();
    segment.writer.spill().await.unwrap();
    let range = segment.range;
    segment.writer.stage(range).await.unwrap();
    segment.writer.publish().await.unwrap();
    let rows = fake.rows(&table("orders"));
    assert_eq!(rows.iter().map(|row| row.columns["n"].as_i64().unwrap()).collect::<Vec<_>>(), [0, 1, 3, 4]);
}
