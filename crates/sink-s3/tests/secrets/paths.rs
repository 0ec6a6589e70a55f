//! Every way on which something goes wrong with a secret at hand.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use aqueduct_core::testkit::{Canary, LogCapture, LogLine};
use aqueduct_core::{ErrorChain, Sink};
use aqueduct_files::{Delimited, ObjectMeta, ObjectTarget, Part, Upload};
use aqueduct_sink_s3::{
    AssumeRole, CustomerKey, Encryption, KmsKey, ObjectAttributes, Proxy, S3Sink, S3SinkBuilder, WebIdentity,
};
use bytes::Bytes;

use super::refusing::{Answer, Refusing};

pub(crate) static SECRET: Canary = Canary::new("secret key", "canary/secret+key=31");
pub(crate) static TOKEN: Canary = Canary::new("session token", "canary/session+token=32");
static CUSTOMER_KEY: Canary = Canary::new("customer key", "canary/sse-c+key=0123456789abcde");
static PROXY: Canary = Canary::new("proxy password", "canary/proxy+pass=34");
static PROXY_URL: Canary = Canary::new("password in a proxy's URL", "canary-proxy-url-35");
static ENDPOINT_URL: Canary = Canary::new("password in an endpoint's URL", "canary-endpoint-url-36");
static STS_URL: Canary = Canary::new("password in a token service's URL", "canary-sts-url-37");
static BUCKET_URL: Canary = Canary::new("password in a bucket's URL", "canary-bucket-url-42");
static EXTERNAL_ID: Canary = Canary::new("external id", "canary/external+id=38");
pub(crate) static WEB_TOKEN: Canary = Canary::new("web identity token", "canary.web/identity+token=39");
pub(crate) static SESSION_SECRET: Canary = Canary::new("secret key of a session", "canary/session+secret=40");
pub(crate) static SESSION_TOKEN: Canary = Canary::new("token of a session", "canary/issued+token=41");

static ALL: [&Canary; 12] = [
    &SECRET,
    &TOKEN,
    &CUSTOMER_KEY,
    &PROXY,
    &PROXY_URL,
    &ENDPOINT_URL,
    &STS_URL,
    &BUCKET_URL,
    &EXTERNAL_ID,
    &WEB_TOKEN,
    &SESSION_SECRET,
    &SESSION_TOKEN,
];

/// What every canary starts with: text in which this is not found in any form holds none of them.
static ANY: Canary = Canary::new("any", "canary");

/// All logs of the process: those of `tracing`, and those of `log`, which some dependencies use.
fn log() -> &'static LogCapture {
    static LOG: OnceLock<LogCapture> = OnceLock::new();
    LOG.get_or_init(|| {
        let capture = LogCapture::install().unwrap();
        ::log::set_boxed_logger(Box::new(Lines(capture.clone()))).unwrap();
        ::log::set_max_level(::log::LevelFilter::Trace);
        capture
    })
}

struct Lines(LogCapture);

impl ::log::Log for Lines {
    fn enabled(&self, _: &::log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &::log::Record<'_>) {
        self.0.add(record.target(), record.args().to_string());
    }

    fn flush(&self) {}
}

pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/archive";

const ANSWERS: [Answer; 9] = [
    Answer::Status(403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"),
    Answer::Status(403, ""),
    Answer::Status(400, "<Error><Code>ExpiredToken</Code></Error>"),
    Answer::Status(400, "not xml"),
    Answer::Status(407, ""),
    Answer::Status(500, "<Error><Code>InternalError</Code></Error>"),
    Answer::Garbage,
    Answer::CutOff,
    Answer::Reset,
];

/// What has been said, where it was said, and in which situation.
#[derive(Default)]
pub(crate) struct Said {
    lines: Vec<(String, LogLine)>,
    /// Whether every kind of configuration has met an answer.
    answered: bool,
}

impl Said {
    /// What `value` shows of itself.
    fn debug(&mut self, situation: &str, value: &impl Debug) {
        self.text(situation, "Debug", format!("{value:?}\n{value:#?}"));
    }

    fn text(&mut self, situation: &str, target: &str, text: String) {
        self.lines.push((situation.to_owned(), LogLine { target: target.to_owned(), text }));
    }

    fn error(&mut self, situation: &str, error: &(dyn std::error::Error + 'static)) {
        let mut text = format!("{error}\n{error:?}\n{error:#?}\n{}", ErrorChain(error));
        let mut source = error.source();
        while let Some(error) = source {
            write!(text, "\n{error}\n{error:?}").unwrap();
            source = error.source();
        }
        self.text(situation, "an error", text);
    }

    fn logged(&mut self, situation: &str) {
        self.lines.extend(
            log()
                .take_of(|target| !target.starts_with("leaky"))
                .into_iter()
                .map(|line| (situation.to_owned(), line)),
        );
    }

    /// Which of the canaries was said by whom, with an example.
    pub(crate) fn leaks(&self) -> BTreeMap<(&'static str, String), String> {
        let mut leaks = BTreeMap::new();
        for (situation, line) in self.lines.iter().filter(|(_, line)| ANY.seen_in(&line.text).is_some()) {
            for canary in ALL {
                if let Some(form) = canary.seen_in(&line.text) {
                    let start: String = line.text.chars().take(400).collect();
                    let example = format!("{form} ({situation}): {start}");
                    leaks.entry((canary.name(), line.target.clone())).or_insert(example);
                }
            }
        }
        leaks
    }
}

pub(crate) fn plain() -> S3SinkBuilder<Delimited> {
    S3Sink::builder()
        .bucket("archive")
        .region("eu-central-1")
        .attempts(1)
        .attempt_timeout(Duration::from_millis(500))
        .format(Delimited::lines())
}

fn with_key(server: &Refusing) -> S3SinkBuilder<Delimited> {
    plain().endpoint(server.url()).session_credentials("AKIA", SECRET.secret(), TOKEN.secret())
}

/// Does everything that a target is asked for.
pub(crate) async fn everything(situation: &str, builder: S3SinkBuilder<Delimited>, said: &mut Said) {
    log();
    // What they show of themselves does not depend on the answers.
    let shown = !said.answered;
    if shown {
        said.debug(situation, &builder);
    }
    let sink = match builder.build().await {
        Ok(sink) => sink,
        Err(error) => return said.error(situation, &error),
    };
    if shown {
        said.debug(situation, &sink);
        said.debug(situation, sink.target());
        said.debug(situation, sink.target().client());
        said.debug(situation, sink.target().client().config());
    }
    let target = sink.target();
    let meta = ObjectMeta { content_type: "text/plain".to_owned(), user: Vec::new() };
    let upload = Upload { key: "k".to_owned(), id: "u".to_owned() };
    let part = Part { number: 1, tag: "t".to_owned(), crc32c: 0 };
    let errors = [
        Sink::<Bytes>::check(&sink).await.err(),
        target.put("k", Bytes::from("x"), 0, &meta).await.err(),
        target.create_multipart("k", &meta).await.err(),
        target.upload_part(&upload, 1, Bytes::from("x"), 0).await.err(),
        target.complete(&upload, &[part]).await.err(),
        target.abort(&upload).await.err(),
        target.head("k").await.err(),
        target.uploads_of("k").await.err(),
    ];
    for error in errors.into_iter().flatten() {
        said.error(situation, &error);
    }
    said.logged(situation);
}

/// Everything that refuses, for everybody who may be refused.
async fn refusals(server: &Refusing, said: &mut Said) {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut token, WEB_TOKEN.secret().as_bytes()).unwrap();
    let key = CustomerKey::new(CUSTOMER_KEY.secret().as_bytes().try_into().unwrap());
    said.debug("key", &key);
    let customer_key = ObjectAttributes::new().encryption(Encryption::CustomerKey(key));
    let role = AssumeRole::new(ROLE).external_id(EXTERNAL_ID.secret());
    let identity = WebIdentity::new(ROLE, token.path());
    let proxy = Proxy::new(server.url()).basic_auth("user", PROXY.secret());
    said.debug("parts", &(&role, &identity, &proxy));
    let issued = (SESSION_SECRET.secret(), SESSION_TOKEN.secret());
    for answer in ANSWERS {
        server.answers(answer);
        let situation = |what: &str| format!("{what}, {answer:?}");
        everything(
            &situation("key"),
            with_key(server).attributes(customer_key.clone()).abort_stale_uploads(true),
            said,
        )
        .await;
        for (with, sessions, readable) in [
            ("refused", None, true),
            ("granted", Some(issued), true),
            ("granted unreadably", Some(issued), false),
        ] {
            server.sessions(sessions, readable);
            let assumed = with_key(server).sts_endpoint(server.url()).assume_role(role.clone());
            everything(&situation(&format!("role {with}")), assumed, said).await;
            let web =
                plain().endpoint(server.url()).sts_endpoint(server.url()).web_identity(identity.clone());
            everything(&situation(&format!("web identity {with}")), web, said).await;
        }
        server.sessions(None, true);
        for endpoint in ["http://s3.invalid:9000", "https://s3.invalid:9000"] {
            if answer == Answer::CutOff && endpoint.starts_with("https") {
                // A tunnel that is never one: each request would wait for its timeout.
                continue;
            }
            let through = with_key(server).endpoint(endpoint).proxy(proxy.clone());
            everything(&situation(&format!("proxy to {endpoint}")), through, said).await;
        }
        said.answered = true;
    }
    // Again, with retries, and where nobody listens.
    server.answers(Answer::Status(503, "<Error><Code>SlowDown</Code></Error>"));
    let retrying = with_key(server).attempts(2).payload_signing(true).build().await.unwrap();
    let meta = ObjectMeta::default();
    said.error(
        "key, with retries",
        &retrying.target().put("k", Bytes::from("x"), 0, &meta).await.unwrap_err(),
    );
    said.logged("key, with retries");
    everything("nobody listens", with_key(server).endpoint("http://127.0.0.1:1"), said).await;
    // As a file ends that a token is read from: no header can hold it.
    let line = plain().endpoint(server.url()).session_credentials(
        "AKIA",
        SECRET.secret(),
        format!("{}\n", TOKEN.secret()),
    );
    everything("a token with a newline", line, said).await;
    let silent = WebIdentity::new(ROLE, "/no/such/token");
    let nowhere = plain().endpoint(server.url()).sts_endpoint(server.url()).web_identity(silent);
    everything("web identity without its file", nowhere, said).await;
    drop(token);
}

/// Configurations that are wrong, with secrets where they do not belong.
async fn mistakes(said: &mut Said) {
    let url = |canary: &Canary| format!("http://user:{}@127.0.0.1:9", canary.secret());
    let plain = || plain().session_credentials("AKIA", SECRET.secret(), TOKEN.secret());
    let proxy = Proxy::new(url(&PROXY_URL)).basic_auth("user", PROXY.secret());
    said.debug("proxy with a password in its URL", &proxy);
    for (situation, builder) in [
        ("password in the endpoint's URL", plain().endpoint(url(&ENDPOINT_URL))),
        (
            "password in a URL without a scheme",
            plain().endpoint(format!("user:{}@host", ENDPOINT_URL.secret())),
        ),
        (
            "password in a URL of another scheme",
            plain().endpoint(format!("ftp://u:{}@host/x", ENDPOINT_URL.secret())),
        ),
        (
            "password in the endpoint's query",
            plain().endpoint(format!("http://host/?key={}", ENDPOINT_URL.secret())),
        ),
        ("password in the token service's URL", plain().sts_endpoint(url(&STS_URL))),
        ("password in the proxy's URL", plain().proxy(proxy)),
        (
            "password in a broken proxy's URL",
            plain().proxy(Proxy::new(format!("http://u:{}@[::1", PROXY_URL.secret()))),
        ),
        ("an empty key with a secret", plain().credentials("", SECRET.secret())),
        (
            "a password in a bucket's URL",
            plain().bucket(format!("s3a://AKIA:{}@archive", BUCKET_URL.secret())),
        ),
        (
            "a role that is none",
            plain().assume_role(AssumeRole::new("x").external_id(EXTERNAL_ID.secret()).session_name("?")),
        ),
        (
            "a customer key in plain text",
            plain().endpoint("http://s3.example.org").attributes(ObjectAttributes::new().encryption(
                Encryption::CustomerKey(CustomerKey::new(
                    CUSTOMER_KEY.secret().as_bytes().try_into().unwrap(),
                )),
            )),
        ),
        (
            "a KMS key of white space",
            plain().attributes(ObjectAttributes::new().encryption(Encryption::Kms(KmsKey::new(" ")))),
        ),
    ] {
        said.debug(situation, &builder);
        match builder.build().await {
            Ok(_) => panic!("{situation} was taken"),
            Err(error) => said.error(situation, &error),
        }
        said.logged(situation);
    }
    let wrong = CustomerKey::from_base64(&CUSTOMER_KEY.secret().into()).unwrap_err();
    said.error("a customer key that is not base64", &wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_said_on_any_way_that_goes_wrong() {
    log();
    let mut said = Said::default();
    let server = Refusing::start();
    refusals(&server, &mut said).await;
    Box::pin(mistakes(&mut said)).await;
    // The secrets were at hand: whoever they are meant for has them, or something that proves them.
    let sent = server.received();
    for canary in [&TOKEN, &CUSTOMER_KEY, &PROXY, &EXTERNAL_ID, &WEB_TOKEN, &SESSION_TOKEN] {
        assert!(canary.seen_in(&sent).is_some(), "{} was not sent to anybody", canary.name());
    }
    for target in ["aws_sigv4", "aws_smithy_runtime::client::orchestrator", "hyper_util"] {
        let says = |(_, line): &(String, LogLine)| line.target.starts_with(target);
        assert!(said.lines.iter().any(says), "nothing of {target} was captured");
    }
    let leaks = said.leaks();
    let unexpected: Vec<_> =
        leaks.iter().filter(|((secret, target), _)| !KNOWN.contains(&(*secret, target))).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    for (secret, target) in KNOWN {
        let known = leaks.contains_key(&(secret, target.to_owned()));
        assert!(known, "{target} does not say the {secret} any more: take it out of here and of SECURITY.md");
    }
}

/// What dependencies say at `TRACE`. An application decides which targets it records, a library cannot: SECURITY.md names these.
const KNOWN: [(&str, &str); 1] = [("customer key", "aws_sigv4::http_request::sign")];

/// The net has no holes: what is said is found.
#[tokio::test]
async fn a_secret_that_is_said_is_found() {
    let line = |text: String| Said {
        lines: vec![("test".to_owned(), LogLine { target: "t".to_owned(), text })],
        answered: true,
    };
    for canary in ALL {
        assert!(canary.secret().starts_with(ANY.secret()));
        let said = line(format!("the answer to {} is 42", canary.secret()));
        assert_eq!(said.leaks().into_keys().collect::<Vec<_>>(), [(canary.name(), "t".to_owned())]);
    }
    // Through the subscriber and the logger, from a thread of its own, as the SDK does it.
    log();
    let span = tracing::trace_span!(target: "leaky::span", "request", token = TOKEN.secret());
    std::thread::spawn(move || {
        let _entered = span.entered();
        tracing::trace!(target: "leaky::event", "key {}", SECRET.secret());
        tracing::debug!(target: "leaky::field", password = ?PROXY.secret());
        ::log::trace!(target: "leaky::log", "header {}", aws_smithy_types::base64::encode(format!("user:{}", PROXY.secret())));
    })
    .join()
    .unwrap();
    let mut said = Said::default();
    said.error("an error", &std::io::Error::other(WEB_TOKEN.secret()));
    said.debug("a value", &Some(EXTERNAL_ID.secret()));
    // Only what is ours: the other test may be running.
    said.lines.extend(
        log()
            .take_of(|target| target.starts_with("leaky"))
            .into_iter()
            .map(|line| ("logged".to_owned(), line)),
    );
    let found: Vec<_> =
        said.leaks().into_keys().map(|(secret, target)| format!("{secret} by {target}")).collect();
    assert_eq!(
        found,
        [
            "external id by Debug",
            "proxy password by leaky::field",
            "proxy password by leaky::log",
            "secret key by leaky::event",
            "session token by leaky::span",
            "web identity token by an error",
        ]
    );
}
