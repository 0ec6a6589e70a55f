//! What the sinks make of targets that fail: which errors pass by themselves, which need a human, which are a record's own.

use std::fs;
use std::future::pending;
use std::time::Duration;

use aqueduct::prelude::*;
use aqueduct::testkit::{MemoryDeadLetters, ScriptedBroker, ScriptedSource};
use aqueduct::{BatchSink, Batched, Builder, Class, ErrorChain, PipelineError, StageError, TopicPartition};
use custom_sink::directory::DirectorySink;
use custom_sink::endpoint::Endpoint;
use custom_sink::http::HttpSink;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn http(url: String) -> HttpSink {
    HttpSink { client: Client::builder(TokioExecutor::new()).build_http(), url }
}

/// What the sink says to an endpoint that gives this answer to everything.
async fn check(answer: &'static str) -> Result<(), StageError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
        stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    });
    let result = BatchSink::<aqueduct::convert::JsonValue>::check(&http(url)).await;
    server.await.unwrap();
    result
}

#[tokio::test]
async fn answers_have_classes() {
    for taken in ["200 OK", "204 No Content", "400 Bad Request", "422 Unprocessable Content"] {
        check(taken).await.unwrap_or_else(|error| panic!("{taken}: {}", ErrorChain(&error)));
    }
    for again in ["408 Request Timeout", "429 Too Many Requests", "500 Oops", "503 Service Unavailable"] {
        assert_eq!(check(again).await.unwrap_err().class(), Class::RETRY, "{again}");
    }
    let named = check("503 Service Unavailable\r\nretry-after: 7").await.unwrap_err();
    assert_eq!(named.class(), Class::Retry { after: Some(Duration::from_secs(7)) });
    let unread =
        check("503 Service Unavailable\r\nretry-after: Wed, 21 Oct 2026 07:28:00 GMT").await.unwrap_err();
    assert_eq!(unread.class(), Class::RETRY);
    for wrong in ["301 Moved Permanently", "401 Unauthorized", "404 Not Found", "409 Conflict"] {
        let error = check(wrong).await.unwrap_err();
        let text = ErrorChain(&error).to_string();
        assert_eq!(error.class(), Class::Fatal, "{text}");
        assert!(
            text.contains("check address and credentials") && text.contains("http://127.0.0.1:"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_may_come_back() {
    // Bound and let go again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sink = http(format!("http://{address}"));
    let error = BatchSink::<aqueduct::convert::JsonValue>::check(&sink).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
}

/// A pipeline over `values` that stores JSON of any kind.
fn pipeline<K: aqueduct::Sink<aqueduct::convert::JsonValue>>(
    values: &[&'static str],
    spool: &tempfile::TempDir,
    sink: K,
) -> Builder<ScriptedSource, Json, ByKafkaPartition, K> {
    let broker = ScriptedBroker::new();
    broker.extend(&TopicPartition::new("orders", 3), values.iter().copied());
    Pipeline::from(broker.source().until_end())
        .convert(Json::new())
        .partition(ByKafkaPartition)
        .sink(sink)
        .spool_dir(spool.path())
        .require(Guarantee::ExactlyOnce)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_the_endpoint_refuses_costs_exactly_itself() {
    let endpoint = Endpoint::start(None).await.unwrap();
    let spool = tempfile::tempdir().unwrap();
    let letters = MemoryDeadLetters::new();
    // The endpoint takes objects.
    let values = [r#"{"n":0}"#, r#"{"n":1}"#, "17", r#"{"n":3}"#, r#"{"n":4}"#, "null", r#"{"n":6}"#];
    let built = pipeline(&values, &spool, Batched::new(http(endpoint.url())))
        .on_poison(OnPoison::DeadLetter(std::sync::Arc::new(letters.clone())))
        .build()
        .unwrap();
    let report = built.run(pending()).await.unwrap();
    assert_eq!((report.durable, report.dead_letters), (7, 2));
    let stored: Vec<_> = endpoint.rows().into_iter().map(|row| (row.partition, row.offset)).collect();
    assert_eq!(stored, [(3, 0), (3, 1), (3, 3), (3, 4), (3, 6)]);
    assert_eq!(letters.offsets(&TopicPartition::new("orders", 3)), [2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_somebody_else_is_not_touched_and_stops_the_lane() {
    let (root, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let taken = root.path().join("topics/orders/partition=3/3+00000000000000000000.jsonl");
    for (contents, same) in
        [("{\"n\":0}\n{\"n\":1}\n", true), ("{\"n\":0}\n", false), ("{\"n\":0}\n{\"n\":7}\n", false)]
    {
        fs::create_dir_all(taken.parent().unwrap()).unwrap();
        fs::write(&taken, contents).unwrap();
        let values = [r#"{"n":0}"#, r#"{"n":1}"#];
        let run =
            pipeline(&values, &spool, DirectorySink::new(root.path())).build().unwrap().run(pending()).await;
        assert_eq!(fs::read_to_string(&taken).unwrap(), contents);
        if same {
            run.unwrap();
            continue;
        }
        let error = run.unwrap_err();
        let text = ErrorChain(&error).to_string();
        for part in [
            "3+00000000000000000000.jsonl exists with other contents",
            "2 rows of [0, 2)",
            "nothing was overwritten",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_cannot_be_one_is_found_before_a_record_is_read() {
    let (root, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let built = pipeline(&["{}"], &spool, DirectorySink::new(&file)).build().unwrap();
    let error = built.run(pending()).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    let PipelineError::Sink(stage) = error else { panic!("{text}") };
    assert_eq!(stage.class(), Class::Fatal, "{text}");
    assert!(text.contains("make it writable") && text.contains("file/topics"), "{text}");
}
