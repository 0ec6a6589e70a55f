//! What is sent: tokens, sizes, the order of requests.

use aqueduct_core::Class;
use aqueduct_sink_bigquery::Credentials;
use aqueduct_sink_bigquery::testkit::{FakeCall, FakeLimits};

use crate::support::{Process, builder, fake, one_table, told, visible};

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
