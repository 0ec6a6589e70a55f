//! The target against a server that is not ours.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aqueduct_core::{Class, ErrorChain, Sink, StageError};
use aqueduct_files::{Completion, Creation, Delimited, ObjectMeta, ObjectTarget, Upload};
use aqueduct_sink_s3::{S3Sink, S3SinkBuilder, S3Target};
use bytes::Bytes;

use super::support::{ACCESS_KEY, BUCKET, Fault, SECRET, Server};

fn builder(server: &Server) -> S3SinkBuilder<Delimited> {
    S3Sink::builder()
        .bucket(BUCKET)
        .endpoint(server.endpoint())
        .credentials(ACCESS_KEY, SECRET)
        .format(Delimited::lines())
}

async fn target(server: &Server) -> S3Target {
    builder(server).build().await.unwrap().target().clone()
}

/// CRC-32C, a bit at a time: not the implementation under test.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

fn meta() -> ObjectMeta {
    ObjectMeta {
        content_type: "text/plain".to_owned(),
        user: vec![("aqueduct", "v=1 rows=7 topic=orders".to_owned()), ("origin", "test".to_owned())],
    }
}

#[tokio::test]
async fn an_object_is_created_once_and_carries_its_metadata() {
    let server = Server::start().await;
    let target = target(&server).await;
    let key = "topics/orders/r=a%2Fb c/orders+0+0000000000.json";
    assert_eq!(target.head(key).await.unwrap(), None);
    let body = Bytes::from("{\"a\":1}\n");
    let put = |body: Bytes| {
        let target = &target;
        async move { target.put(key, body.clone(), crc32c(&body), &meta()).await.unwrap() }
    };
    assert_eq!(put(body.clone()).await, Creation::Created);
    assert_eq!(put(Bytes::from("other")).await, Creation::AlreadyExists);
    let head = target.head(key).await.unwrap().unwrap();
    assert_eq!(head.size, body.len() as u64);
    for (name, value) in meta().user {
        assert!(head.user.contains(&(name.to_owned(), value)), "{:?}", head.user);
    }

    let seen = server.seen();
    let put = seen.iter().find(|seen| seen.line.starts_with("PUT")).unwrap();
    assert_eq!(put.header("if-none-match"), Some("*"));
    assert_eq!(put.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "the body is not hashed twice");
    assert!(put.header("x-amz-checksum-crc32c").is_some() && put.header("x-amz-trailer").is_none());
    assert!(put.header("authorization").unwrap().contains("x-amz-checksum-crc32c"), "the checksum is signed");
}

#[tokio::test]
async fn payloads_are_signed_on_request() {
    let server = Server::start().await;
    let sink = builder(&server).payload_signing(true).build().await.unwrap();
    let body = Bytes::from("row\n");
    sink.target().put("k", body.clone(), crc32c(&body), &meta()).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].header("x-amz-content-sha256").map(str::len), Some(64));
}

#[tokio::test]
async fn parts_become_one_object_once() {
    let server = Server::start().await;
    let target = target(&server).await;
    let bodies = [Bytes::from(vec![b'a'; 5 << 20]), Bytes::from(vec![b'b'; 5 << 20]), Bytes::from("end")];
    for expected in [Completion::Created, Completion::AlreadyExists] {
        let upload = target.create_multipart("large", &meta()).await.unwrap();
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            parts.push(target.upload_part(&upload, number, body.clone(), crc32c(body)).await.unwrap());
        }
        assert_eq!(target.complete(&upload, &parts).await.unwrap(), expected);
        target.abort(&upload).await.ok();
    }
    let head = target.head("large").await.unwrap().unwrap();
    assert_eq!(head.size, 2 * (5 << 20) + 3);
    assert!(head.user.contains(&("origin".to_owned(), "test".to_owned())));
}

#[tokio::test]
async fn an_upload_that_is_gone_is_told_apart() {
    let server = Server::start().await;
    let target = target(&server).await;
    let upload = Upload { key: "k".to_owned(), id: "gone".to_owned() };
    server.fault("POST", Fault::Status(404, "NoSuchUpload"));
    assert_eq!(target.complete(&upload, &[]).await.unwrap(), Completion::UploadGone);
    server.fault("DELETE", Fault::Status(404, "NoSuchUpload"));
    target.abort(&upload).await.unwrap();
    server.fault("PUT", Fault::Status(404, "NoSuchUpload"));
    let body = Bytes::from("x");
    let error = target.upload_part(&upload, 1, body.clone(), crc32c(&body)).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
    server.fault("PUT", Fault::Status(409, "ConditionalRequestConflict"));
    let error = target.put("k", body.clone(), crc32c(&body), &meta()).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
    assert!(server.objects().is_empty());
}

#[tokio::test]
async fn bytes_that_changed_on_the_way_are_refused() {
    let server = Server::start().await;
    let target = target(&server).await;
    let result = target.put("k", Bytes::from("sent"), crc32c(b"meant"), &meta()).await;
    let error = result.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("received other bytes"), "{error}");
    assert_eq!(error.class(), Class::RETRY);
}

#[tokio::test]
async fn outages_are_retried_and_lost_answers_met() {
    let server = Server::start().await;
    let target = target(&server).await;
    let body = Bytes::from("row\n");
    let put = |key: &'static str| {
        let (target, body) = (&target, body.clone());
        async move { target.put(key, body.clone(), crc32c(&body), &meta()).await.unwrap() }
    };
    server.fault("PUT", Fault::Status(503, "SlowDown"));
    assert_eq!(put("slow").await, Creation::Created);
    server.fault("PUT", Fault::Reset);
    assert_eq!(put("reset").await, Creation::Created);
    server.fault("PUT", Fault::LoseAnswer);
    assert_eq!(put("lost").await, Creation::AlreadyExists, "the second attempt meets the first one's object");
    assert!(server.faults_are_used_up());
    assert_eq!(server.objects().len(), 3);
}

/// The answer to a `HEAD` has no body: a token that has expired and a permission that is missing look alike.
#[tokio::test]
async fn the_reason_of_a_refused_look_is_asked_for() {
    let server = Server::start().await;
    let target = target(&server).await;
    let body = Bytes::from("row\n");
    target.put("k", body.clone(), crc32c(&body), &meta()).await.unwrap();
    let plain = target.head("k").await.unwrap();
    assert!(plain.is_some());
    for status in [400, 403] {
        server.fault("HEAD", Fault::Status(status, ""));
        assert_eq!(target.head("k").await.unwrap(), plain, "refused and then allowed, by {status}");
        server.fault("HEAD", Fault::Status(status, ""));
        server.fault("GET", Fault::Status(status, "ExpiredToken"));
        let error = target.head("k").await.unwrap_err();
        assert_eq!(error.class(), Class::RETRY, "{}", ErrorChain(&error));
    }
    server.fault("HEAD", Fault::Status(403, ""));
    assert_eq!(target.head("absent").await.unwrap(), None);
    server.fault("HEAD", Fault::Status(403, ""));
    server.fault("GET", Fault::Status(403, "AccessDenied"));
    let error = target.head("k").await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert!(
        error.class() == Class::Fatal && text.contains("s3://archive/k") && text.contains("s3:GetObject"),
        "{text}"
    );
    assert!(server.faults_are_used_up());
}

#[tokio::test]
async fn a_completion_that_fails_with_status_200_has_failed() {
    let server = Server::start().await;
    let target = builder(&server).attempts(1).build().await.unwrap().target().clone();
    let upload = Upload { key: "k".to_owned(), id: "any".to_owned() };
    server.fault("POST", Fault::Body("<Error><Code>InternalError</Code><Message>m</Message></Error>"));
    let error = target.complete(&upload, &[]).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY, "{}", ErrorChain(&error));
    assert!(server.faults_are_used_up());
}

#[tokio::test]
async fn uploads_left_behind_are_those_of_exactly_the_key() {
    let server = Server::start().await;
    let plain = target(&server).await;
    assert!(plain.uploads_of("a/k").await.unwrap().is_empty() && server.seen().is_empty(), "not asked for");
    let target = plain.with_stale_upload_abort(true);
    let pages = [
        "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a/k</NextKeyMarker>\
         <NextUploadIdMarker>1</NextUploadIdMarker><Upload><Key>a/k</Key><UploadId>1</UploadId></Upload>\
         </ListMultipartUploadsResult>",
        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>a/k</Key><UploadId>2</UploadId>\
         </Upload><Upload><Key>a/k.gz</Key><UploadId>3</UploadId></Upload></ListMultipartUploadsResult>",
    ];
    for page in pages {
        server.fault("uploads", Fault::Body(page));
    }
    let ids: Vec<String> = target.uploads_of("a/k").await.unwrap().into_iter().map(|it| it.id).collect();
    assert_eq!(ids, ["1", "2"]);
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.line.contains("prefix=a%2Fk")), "{seen:?}");
    assert!(seen[1].line.contains("key-marker=a%2Fk") && seen[1].line.contains("upload-id-marker=1"));
}

async fn check(builder: S3SinkBuilder<Delimited>) -> Result<(), StageError> {
    let sink = builder.build().await.unwrap();
    let begun = Instant::now();
    let result = Sink::<Bytes>::check(&sink).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    result
}

#[tokio::test]
async fn a_wrong_setting_is_named_with_its_remedy() {
    let server = Server::start().await;
    check(builder(&server)).await.unwrap();
    assert!(server.objects().is_empty(), "checking leaves nothing behind");

    let expect = async |builder: S3SinkBuilder<Delimited>, class: Class, words: &[&str]| {
        let error = check(builder).await.unwrap_err();
        let text = ErrorChain(&error).to_string();
        assert_eq!(error.class(), class, "{text}");
        for word in words {
            assert!(text.contains(word), "{text} should say {word}");
        }
        assert!(!text.contains(SECRET) && !format!("{error:?}").contains(SECRET));
    };
    let endpoint = server.endpoint();
    expect(builder(&server).bucket("missing"), Class::Fatal, &["missing", &endpoint, "create the bucket"])
        .await;
    expect(
        builder(&server).credentials("AKIAWRONG", SECRET),
        Class::Fatal,
        &["refuses the credentials", "check the access key"],
    )
    .await;
    let wrong = builder(&server).credentials(ACCESS_KEY, "not-the-secret");
    expect(wrong, Class::Fatal, &["SignatureDoesNotMatch", "check the access key"]).await;
    let closed = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let unreachable = builder(&server).endpoint(format!("http://{closed}"));
    expect(unreachable, Class::RETRY, &["cannot be reached", "check the endpoint"]).await;
    server.fault("POST", Fault::Status(301, "PermanentRedirect"));
    expect(builder(&server), Class::Fatal, &["region", "set the region"]).await;
    server.fault("POST", Fault::Status(403, "AccessDenied"));
    expect(builder(&server), Class::Fatal, &["s3://archive/topics/aqueduct-check", "s3:PutObject"]).await;
}

#[tokio::test]
async fn an_own_client_is_used_as_it_is() {
    let server = Server::start().await;
    let client = {
        let ready = builder(&server).build().await.unwrap();
        ready.target().client().clone()
    };
    let sink = S3Sink::builder()
        .bucket(BUCKET)
        .client(client.clone())
        .format(Delimited::lines())
        .build()
        .await
        .unwrap();
    Sink::<Bytes>::check(&sink).await.unwrap();
    S3Target::from_client(client.clone(), BUCKET).check().await.unwrap();
    let both = S3Sink::builder().bucket(BUCKET).client(client).region("eu-west-1").endpoint("http://x");
    let problems = both.format(Delimited::lines()).build().await.unwrap_err();
    assert_eq!(problems.0.len(), 2, "{problems}");
}

#[tokio::test]
async fn all_problems_are_reported_at_once_and_without_secrets() {
    let builder = S3Sink::builder()
        .bucket("s3://archive/raw")
        .prefix("/raw")
        .endpoint(format!("https://user:{SECRET}@host"))
        .region("eu west")
        .credentials("", SECRET)
        .format(Delimited::lines())
        .compression(aqueduct_files::Compression::Gzip)
        .compression_level(99)
        .part_bytes(1)
        .attempts(0);
    assert!(!format!("{builder:?}").contains(&format!("\"{SECRET}\"")));
    let problems = builder.build().await.unwrap_err();
    let text = problems.to_string();
    assert_eq!(problems.0.len(), 8, "{text}");
    assert!(!text.contains(SECRET) && !format!("{problems:?}").contains(SECRET), "{text}");
    let empty =
        S3Sink::builder().region("x").credentials(ACCESS_KEY, "").format(Delimited::lines()).build().await;
    assert_eq!(empty.unwrap_err().0.len(), 2, "bucket and secret");
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_are_never_printed() {
    let log = Log::default();
    let writer = log.clone();
    // Everything but the server, which runs in this process and may say what it likes.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("trace,s3s=off,s3s_fs=off")
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let server = Server::start().await;
    let configured = builder(&server);
    assert!(!format!("{configured:?}").contains(SECRET));
    let sink = configured.build().await.unwrap();
    assert!(!format!("{sink:?} {:?}", sink.target()).contains(SECRET));
    let session = S3Sink::builder().session_credentials("id", SECRET, SECRET);
    assert!(!format!("{session:?}").contains(SECRET));

    Sink::<Bytes>::check(&sink).await.unwrap();
    let body = Bytes::from("row\n");
    server.fault("PUT", Fault::Status(503, "SlowDown"));
    sink.target().put("k", body.clone(), crc32c(&body), &meta()).await.unwrap();
    let denied = builder(&server).credentials("AKIAWRONG", SECRET).build().await.unwrap();
    let error = denied.target().put("k", body.clone(), crc32c(&body), &meta()).await.unwrap_err();
    tracing::error!(error = %ErrorChain(&error), debug = ?error, "refused");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("AKIAWRONG") || log.contains("NotSignedUp"), "the log was recorded");
    assert!(!log.contains(SECRET));
}
