//! Every way on which something goes wrong with a credential at hand.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::Duration;

use aqueduct_converters::registry::{SchemaKind, SchemaSource};
use aqueduct_core::testkit::{Canary, LogCapture, LogLine};
use aqueduct_core::{BoxError, ErrorChain};
use aqueduct_schema_registry::testkit::{RegistryFault, TestRegistry};
use aqueduct_schema_registry::{BearerTokens, NewSchema, RegistryBuilder, RegistryClient, SecretString};
use async_trait::async_trait;

static PASSWORD: Canary = Canary::new("password", "canary/pass+word=51");
static TOKEN: Canary = Canary::new("bearer token", "canary.bearer/token+52");
static HEADER: Canary = Canary::new("header", "canary/header+value=53");
static URL: Canary = Canary::new("password in a URL", "canary-url-54");
static KEY: Canary = Canary::new("private key", "canary/private+key=55");

static ALL: [&Canary; 5] = [&PASSWORD, &TOKEN, &HEADER, &URL, &KEY];

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

/// Everything that was said.
#[derive(Default)]
struct Said(Vec<(String, LogLine)>);

impl Said {
    fn line(&mut self, situation: &str, target: &str, text: String) {
        self.0.push((situation.to_owned(), LogLine { target: target.to_owned(), text }));
    }

    fn error(&mut self, situation: &str, error: &(dyn std::error::Error + 'static)) {
        self.line(situation, "an error", format!("{} {error:?}", ErrorChain(error)));
    }

    fn debug(&mut self, situation: &str, value: &dyn Debug) {
        self.line(situation, "Debug", format!("{value:?} {value:#?}"));
    }

    fn logged(&mut self, situation: &str) {
        self.0.extend(log().take().into_iter().map(|line| (situation.to_owned(), line)));
    }

    /// Secret and target, and the first line that says it.
    fn leaks(&self) -> BTreeMap<(&'static str, String), String> {
        let mut leaks = BTreeMap::new();
        for (situation, line) in &self.0 {
            if ANY.seen_in(&line.text).is_none() {
                continue;
            }
            for canary in ALL {
                if let Some(form) = canary.seen_in(&line.text) {
                    let found = format!("{situation}, {form}: {}", line.text);
                    leaks.entry((canary.name(), line.target.clone())).or_insert(found);
                }
            }
        }
        leaks
    }
}

struct Tokens(Option<SecretString>);

#[async_trait]
impl BearerTokens for Tokens {
    async fn token(&self) -> Result<SecretString, BoxError> {
        self.0.clone().ok_or_else(|| "the token service is down".into())
    }
}

fn patient(url: &str) -> RegistryBuilder {
    RegistryClient::builder(url)
        .backoff(Duration::from_millis(1))
        .unknown_again_after(Duration::from_millis(1))
        .request_timeout(Duration::from_millis(50))
        .versions(true)
}

fn everybody(url: &str) -> [(&'static str, RegistryBuilder); 4] {
    [
        ("password", patient(url).basic_auth("archive", PASSWORD.secret())),
        ("token", patient(url).bearer_auth(Tokens(Some(TOKEN.secret().into())))),
        ("fixed token", patient(url).bearer_auth(SecretString::from(TOKEN.secret()))),
        ("header", patient(url).header("x-api-key", HEADER.secret())),
    ]
}

async fn everything(situation: &str, builder: RegistryBuilder, said: &mut Said) {
    said.debug(situation, &builder);
    let client = builder.build().unwrap();
    said.debug(situation, &client);
    if let Err(error) = client.schema(1.into()).await {
        said.error(situation, &error);
    }
    let schema = NewSchema::new(SchemaKind::Avro, "\"string\"");
    if let Err(error) = client.register("s", &schema).await {
        said.error(situation, &error);
    }
    said.logged(situation);
}

/// Everything that refuses, for everybody who may be refused.
async fn refusals(registry: &TestRegistry, said: &mut Said) -> String {
    let mut received = String::new();
    let complaint = |status, code| RegistryFault::Complaint(status, code, "no".to_owned());
    for fault in [
        None,
        Some(RegistryFault::Status(400)),
        Some(RegistryFault::Status(401)),
        Some(RegistryFault::Status(403)),
        Some(RegistryFault::Status(500)),
        Some(RegistryFault::RetryAfter(429, 60)),
        Some(complaint(404, 40_403)),
        Some(complaint(409, 409)),
        Some(RegistryFault::Body(200, "not json".to_owned())),
        Some(RegistryFault::Body(404, "<html>".to_owned())),
        Some(RegistryFault::Redirect(format!("http://user:{}@127.0.0.1:1/", "elsewhere"))),
        Some(RegistryFault::Huge { bytes: 5 << 20, announced: false }),
        Some(RegistryFault::Stall),
        Some(RegistryFault::Garbage),
        Some(RegistryFault::CutOff),
        Some(RegistryFault::Reset),
    ] {
        registry.always(fault.clone());
        for (who, builder) in everybody(&registry.url()) {
            everything(&format!("{who}, {fault:?}"), builder, said).await;
        }
        received.extend(registry.requests().iter().map(|request| format!("{request:?}")));
    }
    // What a server says of a request is its own; a lookup does not repeat it.
    for (who, builder) in everybody(&registry.url()) {
        let echo = format!("{} {} {}", PASSWORD.secret(), TOKEN.secret(), HEADER.secret());
        for fault in
            [RegistryFault::Complaint(400, 40_001, echo.clone()), RegistryFault::Body(200, echo.clone())]
        {
            registry.always(Some(fault));
            let situation = format!("{who}, an echo");
            let client = builder.clone().build().unwrap();
            said.error(&situation, &client.schema(1.into()).await.unwrap_err());
            said.logged(&situation);
        }
    }
    // Where nobody listens, and where TLS is spoken to who does not.
    for url in ["http://127.0.0.1:1".to_owned(), registry.url().replace("http:", "https:")] {
        registry.always(Some(RegistryFault::Garbage));
        for (who, builder) in everybody(&url) {
            let builder = builder.connect_timeout(Duration::from_millis(50)).attempts(1);
            everything(&format!("{who}, {url}"), builder, said).await;
        }
    }
    received
}

/// Configurations that are wrong, with secrets where they do not belong.
async fn mistakes(registry: &TestRegistry, said: &mut Said) {
    let key = tempfile::NamedTempFile::new().unwrap();
    let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", KEY.secret());
    std::fs::write(key.path(), text).unwrap();
    let url = |form: &str| form.replace('*', URL.secret());
    for (situation, builder) in [
        ("password in a URL", patient(&url("http://user:*@host"))),
        ("password in a URL without a scheme", patient(&url("user:*@host"))),
        ("password in a URL of another scheme", patient(&url("ftp://user:*@host"))),
        ("password in a broken URL", patient(&url("http://user:*@[::1"))),
        ("password in a query", patient(&url("http://host/?password=*"))),
        ("user with a colon", patient("http://host").basic_auth("a:b", PASSWORD.secret())),
        ("no user", patient("http://host").basic_auth("", PASSWORD.secret())),
        ("header with a newline", patient("http://host").header("x-key", format!("{}\n", HEADER.secret()))),
        ("header without a name", patient("http://host").header("", HEADER.secret())),
        ("a key that is none", patient("http://host").client_certificate(key.path(), key.path())),
        (
            "both",
            patient("http://host")
                .basic_auth("a", PASSWORD.secret())
                .bearer_auth(SecretString::from(TOKEN.secret())),
        ),
    ] {
        said.debug(situation, &builder);
        match builder.build() {
            Ok(_) => panic!("{situation} was taken"),
            Err(error) => said.error(situation, &error),
        }
        said.logged(situation);
    }
    // As a file ends that a token is read from: no header can hold it.
    let newline = Tokens(Some(format!("{}\n", TOKEN.secret()).into()));
    everything("a token with a newline", patient(&registry.url()).bearer_auth(newline), said).await;
    everything("no token", patient(&registry.url()).bearer_auth(Tokens(None)), said).await;
}

#[tokio::test]
async fn no_credential_is_said_on_any_way_that_goes_wrong() {
    log();
    let registry = TestRegistry::start().await;
    let mut said = Said::default();
    let received = Box::pin(refusals(&registry, &mut said)).await;
    Box::pin(mistakes(&registry, &mut said)).await;
    // The secrets were at hand: whoever they are meant for has them.
    for canary in [&PASSWORD, &TOKEN, &HEADER] {
        assert!(canary.seen_in(&received).is_some(), "{} was not sent to anybody", canary.name());
    }
    let targets: Vec<_> = said.0.iter().map(|(_, line)| line.target.as_str()).collect();
    for target in ["aqueduct_schema_registry", "hyper_util", "reqwest"] {
        assert!(targets.iter().any(|it| it.starts_with(target)), "nothing of {target} was captured");
    }
    let leaks = said.leaks();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// The net has no holes: what is said is found.
#[tokio::test]
async fn a_credential_that_is_said_is_found() {
    for canary in ALL {
        assert!(canary.secret().starts_with(ANY.secret()));
        let mut said = Said::default();
        said.line("test", "t", format!("the answer to {} is 42", canary.secret()));
        assert_eq!(said.leaks().into_keys().collect::<Vec<_>>(), [(canary.name(), "t".to_owned())]);
    }
    let mut said = Said::default();
    said.error("test", &std::io::Error::other(TOKEN.secret()));
    said.debug("test", &Some(format!("Basic {}", base64_of(&format!("archive:{}", PASSWORD.secret())))));
    let found: Vec<_> =
        said.leaks().into_keys().map(|(secret, target)| format!("{secret} by {target}")).collect();
    assert_eq!(found, ["bearer token by an error", "password by Debug"]);
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
