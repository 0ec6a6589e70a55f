//! A registry in trouble.

use std::time::Duration;

use aqueduct_converters::registry::{SchemaAnswer, SchemaSource};
use aqueduct_core::{Class, ErrorChain, StageError};
use aqueduct_schema_registry::testkit::{RegistryFault, TestRegistry};
use aqueduct_schema_registry::{RegistryBuilder, RegistryClient, RegistryError};

use proptest::prelude::*;

use super::support::{TEXT, avro, builder, cause, client, known};

async fn one() -> TestRegistry {
    let registry = TestRegistry::start().await;
    registry.register("s", &avro(TEXT));
    registry
}

async fn failure(client: &RegistryClient) -> StageError {
    client.schema(1.into()).await.unwrap_err()
}

#[tokio::test]
async fn what_passes_is_tried_again_and_then_left_to_the_lane() {
    for fault in [
        RegistryFault::Status(500),
        RegistryFault::Status(502),
        RegistryFault::Status(503),
        RegistryFault::Status(429),
        RegistryFault::Status(408),
        RegistryFault::Body(504, "<html>gateway</html>".to_owned()),
        RegistryFault::Reset,
        RegistryFault::Garbage,
        RegistryFault::CutOff,
    ] {
        let registry = one().await;
        let client = client(&registry);
        registry.next(fault.clone());
        registry.next(fault.clone());
        assert_eq!(known(&client, 1).await.text, TEXT, "{fault:?}");
        assert_eq!(registry.requests().len(), 3, "{fault:?}");
        registry.always(Some(fault.clone()));
        let error = failure(&client).await;
        assert_eq!(error.class(), Class::RETRY, "{fault:?}: {}", ErrorChain(&error));
        assert_eq!(registry.requests().len(), 3, "{fault:?}");
        registry.always(None);
        assert_eq!(known(&client, 1).await.text, TEXT, "{fault:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again() {
    for (fault, class) in [
        (RegistryFault::Status(401), Class::Fatal),
        (RegistryFault::Status(403), Class::Fatal),
        (RegistryFault::Status(400), Class::Unknown),
        (RegistryFault::Status(501), Class::Unknown),
        (RegistryFault::Redirect("http://127.0.0.1:1/".to_owned()), Class::Unknown),
        (RegistryFault::Body(200, "<html>log in</html>".to_owned()), Class::Unknown),
        (RegistryFault::Body(200, String::new()), Class::Unknown),
        (RegistryFault::Body(200, r#"{"schema": 7}"#.to_owned()), Class::Unknown),
        (RegistryFault::Body(204, String::new()), Class::Unknown),
        (
            RegistryFault::Body(
                200,
                r#"{"schema": "", "references": [{"name": "a", "subject": "b", "version": -1}]}"#.to_owned(),
            ),
            Class::Unknown,
        ),
    ] {
        let registry = one().await;
        registry.always(Some(fault.clone()));
        let error = failure(&client(&registry)).await;
        assert_eq!(error.class(), class, "{fault:?}: {}", ErrorChain(&error));
        assert!(error.hint().is_some(), "{fault:?}");
        assert_eq!(registry.requests().len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_outage() {
    let gone = TestRegistry::start().await.url();
    let patient = |url: &str| RegistryClient::builder(url).backoff(Duration::from_millis(1)).build().unwrap();
    for url in [&*gone, "http://registry.invalid:8081"] {
        let error = failure(&patient(url)).await;
        assert_eq!(error.class(), Class::RETRY, "{}", ErrorChain(&error));
        assert!(matches!(cause(&error), RegistryError::Unreachable { .. }), "{error:?}");
        assert!(url.contains(&error_server(&error)), "{error:?}");
    }
}

fn error_server(error: &StageError) -> String {
    match cause(error) {
        RegistryError::Unreachable { server, .. } | RegistryError::TimedOut { server } => server.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn silence_and_dripping_run_into_the_limit_of_a_request() {
    for fault in [RegistryFault::Stall, RegistryFault::Drip(Duration::from_millis(50))] {
        let registry = one().await;
        let client = builder(&registry).request_timeout(Duration::from_millis(100)).build().unwrap();
        registry.next(fault.clone());
        assert_eq!(known(&client, 1).await.text, TEXT, "{fault:?}");
        registry.always(Some(fault.clone()));
        let error = failure(&client).await;
        assert!(matches!(cause(&error), RegistryError::TimedOut { .. }), "{fault:?}: {error:?}");
        assert_eq!(error.class(), Class::RETRY);
    }
}

#[tokio::test]
async fn everything_together_runs_into_the_total_limit() {
    let registry = one().await;
    registry.always(Some(RegistryFault::Status(500)));
    let client = builder(&registry)
        .attempts(1_000_000)
        .backoff(Duration::from_millis(10))
        .total_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let error = failure(&client).await;
    assert!(matches!(cause(&error), RegistryError::TimedOut { .. }), "{error:?}");
    assert!(registry.requests().len() > 1);
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept_or_told_to_the_lane() {
    let registry = one().await;
    let client = client(&registry);
    for status in [429, 503] {
        // Longer than one lookup should last: the lane waits, and says so.
        registry.next(RegistryFault::RetryAfter(status, 60));
        let error = failure(&client).await;
        assert_eq!(error.class(), Class::Retry { after: Some(Duration::from_mins(1)) });
        assert_eq!(registry.requests().len(), 1);
    }
    registry.next(RegistryFault::RetryAfter(429, 1));
    let before = tokio::time::Instant::now();
    known(&client, 1).await;
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn answers_have_a_limit_announced_or_not() {
    let body = format!(r#"{{"schema": {:?}}}"#, "x".repeat(1000));
    let registry = one().await;
    registry.next(RegistryFault::Body(200, body.clone()));
    let at = builder(&registry).response_max(body.len()).build().unwrap();
    assert_eq!(known(&at, 1).await.text.len(), 1000);
    registry.next(RegistryFault::Body(200, body.clone()));
    let past = builder(&registry).response_max(body.len() - 1).build().unwrap();
    let error = failure(&past).await;
    assert_eq!(error.class(), Class::Unknown);
    assert!(matches!(cause(&error), RegistryError::TooLarge { .. }), "{error:?}");
    let client = client(&registry);
    for announced in [true, false] {
        registry.next(RegistryFault::Huge { bytes: 1 << 30, announced });
        let error = failure(&client).await;
        let RegistryError::TooLarge { limit, .. } = cause(&error) else { panic!("{error:?}") };
        assert_eq!(*limit, RegistryClient::RESPONSE_MAX);
        assert!(error.hint().unwrap().contains("response_max"));
    }
}

fn two(first: &TestRegistry, second: &TestRegistry) -> RegistryBuilder {
    builder(first).url(second.url())
}

#[tokio::test]
async fn the_next_server_is_asked_and_stays_the_first() {
    for fault in [
        RegistryFault::Status(500),
        RegistryFault::Reset,
        RegistryFault::Redirect("http://127.0.0.1:1/".to_owned()),
        RegistryFault::Body(404, "<html>".to_owned()),
    ] {
        let (first, second) = (one().await, one().await);
        let client = two(&first, &second).build().unwrap();
        first.always(Some(fault.clone()));
        for _ in 0..3 {
            assert_eq!(known(&client, 1).await.text, TEXT, "{fault:?}");
        }
        assert_eq!((first.requests().len(), second.requests().len()), (1, 3), "{fault:?}");
        // And back.
        first.always(None);
        second.always(Some(RegistryFault::Status(503)));
        for _ in 0..3 {
            assert_eq!(known(&client, 1).await.text, TEXT, "{fault:?}");
        }
        assert_eq!((first.requests().len(), second.requests().len()), (3, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn of_two_servers_the_one_that_may_come_back_decides() {
    let (first, second) = (one().await, one().await);
    let client = two(&first, &second).build().unwrap();
    first.always(Some(RegistryFault::Body(404, String::new())));
    second.always(Some(RegistryFault::Status(500)));
    let error = failure(&client).await;
    assert_eq!(error.class(), Class::RETRY);
    assert_eq!((first.requests().len(), second.requests().len()), (3, 3));
    // Who is refused is not asked elsewhere: the second server would say the same, and locks count.
    first.always(Some(RegistryFault::Status(403)));
    let error = failure(&client).await;
    assert_eq!(error.class(), Class::Fatal);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
}

#[tokio::test]
async fn one_clients_lookups_do_not_wait_for_each_other() {
    let registry = one().await;
    registry.next(RegistryFault::Stall);
    let client = client(&registry);
    let stalled = tokio::spawn({
        let client = client.clone();
        async move { client.schema(1.into()).await }
    });
    let mut seen = 0;
    while seen == 0 {
        tokio::task::yield_now().await;
        seen += registry.requests().len();
    }
    assert!(matches!(client.schema(1.into()).await.unwrap(), SchemaAnswer::Known(_)));
    stalled.abort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nobody is trusted: whatever is answered is an answer or an error, and only one answer means that there is no schema.
    #[test]
    fn any_answer_is_read_or_refused(
        status in 200_u16..600,
        body in prop_oneof![
            any::<String>(),
            Just(r#"{"error_code": 40403}"#.to_owned()),
            Just(r#"{"schema": "x", "error_code": 40403}"#.to_owned()),
            Just("[".repeat(100_000)),
            (1_usize..6).prop_map(|cut| r#"{"schema":"x"}"#[cut..].to_owned()),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let registry = one().await;
            registry.always(Some(RegistryFault::Body(status, body.clone())));
            let client = builder(&registry).attempts(1).build().unwrap();
            match client.schema(1.into()).await {
                Ok(SchemaAnswer::Unknown) => assert!(status == 404 && body.contains("40403"), "{status} {body}"),
                Ok(SchemaAnswer::Known(_)) => assert!((200..300).contains(&status) && body.contains("schema")),
                Ok(SchemaAnswer::Unreadable(reason)) => panic!("{reason}"),
                Err(error) => assert_ne!(error.class(), Class::Fenced),
            }
        });
    }
}
