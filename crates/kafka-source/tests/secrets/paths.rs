//! Every way on which something goes wrong with a secret at hand.

use std::error::Error;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_core::testkit::{Canary, LogCapture, LogLine};
use aqueduct_core::{DeadLetterSink as _, ErrorChain, Pool, Source as _, SourceContext};
#[cfg(feature = "oauthbearer")]
use aqueduct_kafka_source::OAuthToken;
use aqueduct_kafka_source::{KafkaDeadLetters, KafkaSource, KafkaSourceBuilder, Sasl, Security, Tls};

use super::broker::{Broker, Refusal};

static PLAIN: Canary = Canary::new("PLAIN password", "canary/plain+pass=51");
static SCRAM: Canary = Canary::new("SCRAM password", "canary/scram+pass=52");
#[cfg(feature = "oauthbearer")]
static TOKEN: Canary = Canary::new("bearer token", "canary.bearer/token+53");
static KEY: Canary = Canary::new("client key", "canary/clientkey+54");
static KEY_PASSWORD: Canary = Canary::new("password of the client key", "canary/keypass+55");
static PROPERTY: Canary = Canary::new("secret in a property", "canary/property+56");
static BROKERS: Canary = Canary::new("password in the broker list", "canary-brokers-57");

static ALL: &[&Canary] = &[
    &PLAIN,
    &SCRAM,
    #[cfg(feature = "oauthbearer")]
    &TOKEN,
    &KEY,
    &KEY_PASSWORD,
    &PROPERTY,
    &BROKERS,
];

/// Refusals come by themselves, on a busy machine too, and however much the client logs.
const REFUSED: Duration = Duration::from_mins(1);
/// Brokers that make no sense are asked again and again; nobody waits for the end of that here.
const NEVER: Duration = Duration::from_secs(2);

/// What has been said, where it was said, and in which situation.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(String, LogLine)>>>);

impl Said {
    fn text(&self, situation: &str, target: &str, text: String) {
        self.0.lock().unwrap().push((situation.to_owned(), LogLine { target: target.to_owned(), text }));
    }

    fn debug(&self, situation: &str, value: &impl Debug) {
        self.text(situation, "Debug", format!("{value:?}\n{value:#?}"));
    }

    fn error(&self, situation: &str, error: &(dyn Error + 'static)) {
        let mut text = format!("{error}\n{error:?}\n{error:#?}\n{}", ErrorChain(error));
        let mut source = error.source();
        while let Some(error) = source {
            write!(text, "\n{error}\n{error:?}").unwrap();
            source = error.source();
        }
        self.text(situation, "an error", text);
    }

    /// Which of the canaries was said by whom, with an example.
    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (situation, line) in &*self.0.lock().unwrap() {
            for canary in ALL {
                if let Some(form) = canary.seen_in(&line.text) {
                    let start: String = line.text.chars().take(400).collect();
                    leaks.push(format!("{} {form} by {} ({situation}): {start}", canary.name(), line.target));
                }
            }
        }
        leaks
    }
}

/// All logs of the process: those of `tracing`, librdkafka's among them, and those of `log`, which the binding uses.
fn log() -> LogCapture {
    let capture = LogCapture::install().unwrap();
    ::log::set_boxed_logger(Box::new(Lines(capture.clone()))).unwrap();
    ::log::set_max_level(::log::LevelFilter::Trace);
    capture
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

fn source(broker: &Broker) -> KafkaSourceBuilder {
    KafkaSource::builder()
        .brokers(broker.brokers())
        .group("g")
        .topics(["orders"])
        .property("debug", "all")
        .property("statistics.interval.ms", "200")
}

/// Opens a source and asks the dead letters, and keeps what they say.
async fn open(
    situation: String,
    builder: KafkaSourceBuilder,
    security: Security,
    broker: &Broker,
    said: Said,
) {
    let builder = builder.security(security.clone());
    said.debug(&situation, &(&builder, &security));
    let letters = KafkaDeadLetters::builder()
        .brokers(broker.brokers())
        .topic("dead")
        .security(security)
        .property("debug", "all");
    said.debug(&situation, &letters);
    let wait = match broker.refusal {
        Refusal::Garbage | Refusal::Reset => NEVER,
        Refusal::Credentials | Refusal::Proof | Refusal::Mechanism => REFUSED,
    };
    let ask = async {
        let letters = match letters.build() {
            Ok(letters) => letters,
            Err(error) => return said.error(&situation, &error),
        };
        said.debug(&situation, &letters);
        match tokio::time::timeout(wait, letters.check()).await {
            Ok(Err(error)) => said.error(&situation, &error),
            Ok(Ok(())) => panic!("{situation}: the broker has no topics"),
            Err(_) => {}
        }
    };
    let read = async {
        let mut source = match builder.build() {
            Ok(source) => source,
            Err(error) => return said.error(&situation, &error),
        };
        said.debug(&situation, &source);
        let context = SourceContext { memory: Pool::new(1 << 20), adopt_foreign_marks: false };
        match tokio::time::timeout(wait, source.open(context)).await {
            Ok(Err(error)) => {
                let text = ErrorChain(&error).to_string();
                assert!(wait == NEVER || text.contains("refused the credentials"), "{situation}: {text}");
                said.error(&situation, &error);
            }
            Ok(Ok(())) => panic!("{situation}: the broker lets nobody in"),
            Err(_) => {}
        }
    };
    tokio::join!(ask, read);
}

/// Everybody who may be refused, at every broker that refuses.
async fn refusals(said: &Said) -> String {
    let pem =
        |label: &str, content: &str| format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n");
    let tls = Tls::system()
        .client_pem(pem("CERTIFICATE", "MIIB"), pem("ENCRYPTED PRIVATE KEY", KEY.secret()))
        .key_password(KEY_PASSWORD.secret());
    let identities = [
        ("PLAIN", Sasl::plain("user", PLAIN.secret())),
        ("SCRAM", Sasl::scram_sha_512("user", SCRAM.secret())),
        #[cfg(feature = "oauthbearer")]
        ("OAUTHBEARER", Sasl::oauthbearer(token)),
    ];
    let mut brokers = Vec::new();
    for refusal in
        [Refusal::Credentials, Refusal::Proof, Refusal::Mechanism, Refusal::Garbage, Refusal::Reset]
    {
        for (name, sasl) in &identities {
            if refusal == Refusal::Proof && *name != "SCRAM" {
                continue;
            }
            let without = Security::SaslWithoutTls(sasl.clone().danger_allow_without_tls());
            brokers.push((format!("{name}, {refusal:?}"), Broker::start(refusal), without));
        }
    }
    let (name, sasl) = identities.into_iter().next().unwrap();
    let with = Security::Sasl(sasl, Tls::system());
    brokers.push((format!("{name} over TLS to a listener without"), Broker::start(Refusal::Garbage), with));
    brokers.push(("a client key that is none".to_owned(), Broker::start(Refusal::Reset), Security::Tls(tls)));
    let opened = brokers.iter().map(|(situation, broker, security)| {
        open(situation.clone(), source(broker), security.clone(), broker, said.clone())
    });
    futures::future::join_all(opened).await;
    brokers.iter().map(|(_, broker, _)| broker.received()).collect()
}

#[cfg(feature = "oauthbearer")]
#[expect(clippy::unnecessary_wraps, reason = "what the source calls")]
fn token() -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
    let expires = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    Ok(OAuthToken::new(TOKEN.secret(), "user", expires))
}

/// Configurations that are wrong, with secrets in them or where they do not belong.
fn mistakes(said: &Said) {
    let builder = || KafkaSource::builder().brokers("localhost:9092").group("g").topics(["orders"]);
    let secret = PROPERTY.secret();
    for (situation, builder) in [
        (
            "a password in the broker list",
            builder()
                .property("metadata.broker.list", "x")
                .brokers(format!("user:{}@kafka:9092", BROKERS.secret())),
        ),
        (
            "a password beside another",
            builder()
                .property("sasl.password", secret)
                .security(Security::SaslWithoutTls(Sasl::scram_sha_256("user", SCRAM.secret()))),
        ),
        (
            "a key that is no PEM",
            builder().security(Security::Tls(
                Tls::system().client_pem("x", KEY.secret()).key_password(KEY_PASSWORD.secret()),
            )),
        ),
        ("PLAIN in clear", builder().security(Security::SaslWithoutTls(Sasl::plain("user", PLAIN.secret())))),
        ("a property with a zero byte", builder().property("sasl.password", format!("{secret}\0"))),
        ("a name of a property with a zero byte", builder().property("sasl.password\0", secret)),
        ("a secret of a misspelt name", builder().property("sasl.oauthbearer.client.secrets", secret)),
        (
            "a secret that is refused",
            builder()
                .property("sasl.oauthbearer.config", secret)
                .property("ssl.key.pem", secret)
                .property("no.such", "1"),
        ),
        (
            "a command with a password",
            builder()
                .property("sasl.kerberos.kinit.cmd", format!("kinit -w {secret}"))
                .property("no.such", "1"),
        ),
        (
            "extensions with a secret",
            builder()
                .property("sasl.oauthbearer.extensions", format!("key={secret}"))
                .property("no.such", "1"),
        ),
        (
            "a proxy with a password",
            builder().property("https.proxy", format!("http://u:{secret}@proxy")).property("no.such", "1"),
        ),
    ] {
        said.debug(situation, &builder);
        match builder.build() {
            Ok(_) => panic!("{situation} was taken"),
            Err(error) => said.error(situation, &error),
        }
    }
}

#[test]
fn no_secret_is_said_on_any_way_that_goes_wrong() {
    let (log, said) = (log(), Said::default());
    mistakes(&said);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let received = runtime.block_on(refusals(&said));
    // Threads that still ask end with their own patience; nobody waits for them.
    runtime.shutdown_background();
    said.0.lock().unwrap().extend(log.take().into_iter().map(|line| ("logged".to_owned(), line)));
    // The secrets were at hand: what a mechanism sends was sent.
    assert!(PLAIN.seen_in(&received).is_some(), "the password was not sent");
    #[cfg(feature = "oauthbearer")]
    assert!(TOKEN.seen_in(&received).is_some(), "the token was not sent");
    assert!(received.contains("p="), "no proof of a SCRAM password was sent");
    let says = |part: &str| said.0.lock().unwrap().iter().any(|(_, line)| line.text.contains(part));
    for part in ["not you", "SCRAM-SHA-512", "SASL", "ssl.key"] {
        assert!(says(part), "nothing was said of {part:?}");
    }
    let leaks = said.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));

    // The net has no holes: what is said is found.
    tracing::trace!(target: "librdkafka", facility = "SASL", "password {}", PLAIN.secret());
    ::log::debug!("key {}", KEY.secret());
    said.error("self-test", &std::io::Error::other(SCRAM.secret()));
    said.0.lock().unwrap().extend(log.take().into_iter().map(|line| ("self-test".to_owned(), line)));
    assert_eq!(said.leaks().len(), 3, "{:#?}", said.leaks());
}
