//! A broker that asks who is there, and clients that answer rightly and wrongly.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::services::{Cache, Certificates, Kafka, Listeners, PASSWORD, USER};

use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::{Access, Certificate, Letters, Login, OnPoison, Options, TOKEN_MADE};

/// The promise: an error within this time, the start of the process included.
const LIMIT: Duration = Duration::from_secs(11);
/// How long the tokens of the run over OAUTHBEARER live; the broker wants a fresh one every 5 s.
const TOKEN_LIVES_S: u64 = 10;
/// Long enough for several tokens.
const TOKEN_RUN: Duration = Duration::from_secs(22);
/// Nobody may ever read this.
const CANARY: &str = "canary-password-51c";

/// What scenarios here have at hand.
struct Door {
    listeners: Listeners,
    certificates: Certificates,
    plain: String,
}

impl Door {
    fn login(&self, login: Login) -> Access {
        Access { ca: Some(self.certificates.ca.clone()), login: Some(login), certificate: None }
    }

    fn certificate(&self) -> Access {
        let Certificates { ca, client, client_key, .. } = self.certificates.clone();
        Access { ca: Some(ca), certificate: Some(Certificate { file: client, key: client_key }), login: None }
    }
}

/// One run over each way in, with dead letters over the same; then every mistake.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let home = site.spools.with_file_name("secured-kafka");
    let (mut broker, certificates) = Kafka::launch_protected(&Cache::from_env()?, &home).await?;
    let listeners = broker.protected().context("the broker has no protected listeners")?.clone();
    let door = Door { listeners, certificates, plain: broker.brokers() };
    let (user, password) = (USER.to_owned(), PASSWORD.to_owned());
    let mut outcome = Outcome::default();
    for (name, login) in [
        ("plain", Login::Plain { user: user.clone(), password: password.clone() }),
        ("scram-256", Login::Scram256 { user: user.clone(), password: password.clone() }),
        ("scram-512", Login::Scram512 { user, password }),
    ] {
        let way = (door.listeners.sasl.clone(), door.login(login));
        outcome = outcome.and(pass(site, &broker, name, way).await?);
    }
    let way = (door.listeners.tls.clone(), door.certificate());
    outcome = outcome.and(pass(site, &broker, "client-certificate", way).await?);
    outcome = outcome.and(tokens(site, &broker, &door).await?);
    outcome = outcome.and(mistakes(site, &broker, &door).await?);
    broker.stop().await?;
    Ok(outcome)
}

async fn at(site: &Site, broker: &Kafka, name: &'static str) -> Result<Case> {
    Case::on(site, name, broker.brokers(), broker.topics()?).await
}

/// A bounded run over one way in.
async fn pass(
    site: &Site,
    broker: &Kafka,
    name: &'static str,
    (brokers, access): (String, Access),
) -> Result<Proof> {
    let case = at(site, broker, name).await?;
    case.produce_range(0..20_000).await?;
    let letters = format!("{name}-letters");
    case.topics().recreate(&letters, 1, &[]).await?;
    let mut options = case.options("worker");
    (options.brokers, options.access) = (brokers, access);
    (options.until_end, options.on_poison) = (true, OnPoison::DeadLetter(Letters::Topic(letters)));
    case.start(&options)?.finish(Duration::from_mins(1)).await?;
    let audit = case.audit(site).await?;
    Ok(Proof { fault: format!("known by {name}"), runs: 1, audit, recovery: None, detail: "TLS".to_owned() })
}

/// Tokens that expire several times while it runs.
async fn tokens(site: &Site, broker: &Kafka, door: &Door) -> Result<Proof> {
    let case = at(site, broker, "oauthbearer").await?;
    let mut options = case.options("worker");
    options.brokers = door.listeners.sasl.clone();
    options.access = door.login(Login::Token { user: USER.to_owned(), lives_s: TOKEN_LIVES_S });
    // Longer than the machine may be busy with something else: a membership that is lost now has been lost by a token.
    options.properties.insert("session.timeout.ms".to_owned(), "15000".to_owned());
    let mut worker = case.start(&options)?;
    worker.until("its partitions", Duration::from_secs(30), |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow(2_000);
    tokio::time::sleep(TOKEN_RUN).await;
    let produced = flow.stop().await?;
    case.drained(&[&worker], Duration::from_secs(30)).await?;
    let assignments = worker.seen().assignments;
    worker.terminate().await?;
    let log = std::fs::read_to_string(site.logs.join("oauthbearer-worker.log"))?;
    let made = log.matches(TOKEN_MADE).count();
    ensure!(made >= 3, "only {made} tokens were made in {} s", TOKEN_RUN.as_secs());
    ensure!(
        assignments == 1,
        "the worker was given its partitions {assignments} times: it lost its membership"
    );
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!("{made} tokens of {TOKEN_LIVES_S} s, one membership");
    Ok(Proof {
        fault: "token expires while it runs".to_owned(),
        runs: made as u64 - 1,
        audit,
        recovery: None,
        detail,
    })
}

/// What is wrong, how it is made, and what the error must say.
struct Mistake {
    name: &'static str,
    make: fn(&mut Options, &Door),
    says: &'static [&'static str],
}

fn guess(user: &str) -> Login {
    Login::Plain { user: user.to_owned(), password: CANARY.to_owned() }
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "password (PLAIN)",
        make: |options, door| options.access = door.login(guess(USER)),
        says: &["refused the credentials", "`sasl.password`"],
    },
    Mistake {
        name: "password (SCRAM)",
        make: |options, door| {
            let login = Login::Scram512 { user: USER.to_owned(), password: CANARY.to_owned() };
            options.access = door.login(login);
        },
        says: &["refused the credentials", "`sasl.password`"],
    },
    Mistake {
        name: "expired token",
        make: |options, door| {
            options.access = door.login(Login::Token { user: USER.to_owned(), lives_s: 0 });
        },
        says: &["refused the credentials", "token"],
    },
    Mistake {
        name: "no token",
        make: |options, door| options.access = door.login(Login::NoToken),
        says: &["refused the credentials", "the issuer is closed for today"],
    },
    Mistake {
        name: "authority",
        make: |options, door| options.access.ca = Some(door.certificates.other_ca.clone()),
        says: &["no TLS session", "certificate", "Tls::ca_file"],
    },
    Mistake {
        name: "host name",
        make: |options, door| options.brokers.clone_from(&door.listeners.sasl_other_name),
        says: &["no TLS session", "127.0.0.1", "host name"],
    },
    Mistake {
        name: "expired certificate",
        make: |options, door| {
            options.brokers.clone_from(&door.listeners.expired);
            options.access.login = None;
        },
        says: &["no TLS session", "not expired"],
    },
    Mistake {
        name: "no client certificate",
        make: |options, door| {
            options.brokers.clone_from(&door.listeners.tls);
            options.access.login = None;
        },
        says: &["certificate", "client_files"],
    },
    Mistake {
        name: "plaintext to a TLS listener",
        make: |options, _| options.access = Access::default(),
        says: &["no broker", "answered", "Security::Tls"],
    },
    Mistake {
        name: "TLS to a plaintext listener",
        make: |options, door| options.brokers.clone_from(&door.plain),
        says: &["no broker", "answered", "security.protocol"],
    },
    Mistake {
        name: "password in clear",
        make: |options, _| options.access.ca = None,
        says: &["without TLS", "danger_allow_without_tls"],
    },
    Mistake {
        name: "file",
        make: |options, _| options.access.ca = Some(PathBuf::from("/no/such/ca.pem")),
        says: &["/no/such/ca.pem", "No such file"],
    },
];

/// Makes every mistake by the source, in a whole run also by the dead letters, then none.
async fn mistakes(site: &Site, broker: &Kafka, door: &Door) -> Result<Proof> {
    let case = at(site, broker, "wrong-access").await?;
    case.produce_range(0..10_000).await?;
    case.topics().recreate("wrong-access-letters", 1, &[]).await?;
    let right = |options: &mut Options| {
        options.brokers.clone_from(&door.listeners.sasl);
        options.access = door.login(Login::Plain { user: USER.to_owned(), password: PASSWORD.to_owned() });
    };
    let mut slowest = Duration::ZERO;
    for mistake in MISTAKES {
        for letters in site.pick(&[false, true][..], &[false]) {
            let mut options = case.options("worker");
            right(&mut options);
            if *letters {
                // They are looked at first.
                options.on_poison = OnPoison::DeadLetter(Letters::Topic("wrong-access-letters".to_owned()));
            }
            (mistake.make)(&mut options, door);
            let mut worker = case.start(&options)?;
            let message = worker.failure(LIMIT * 2).await?;
            let took = worker.age();
            let name = mistake.name;
            tracing::info!("wrong {name}, after {:.1} s: {message}", took.as_secs_f64());
            for part in mistake.says {
                ensure!(
                    message.contains(part),
                    "the error of a wrong {name} does not say {part:?}: {message}"
                );
            }
            ensure!(took < LIMIT, "the error of a wrong {name} came after {:.1} s", took.as_secs_f64());
            slowest = slowest.max(took);
        }
    }
    let log = std::fs::read_to_string(site.logs.join("wrong-access-worker.log"))?;
    ensure!(!log.contains(CANARY) && !log.contains(PASSWORD), "a log shows a password");
    let mut options = case.options("worker");
    right(&mut options);
    options.until_end = true;
    case.start(&options)?.finish(Duration::from_mins(1)).await?;
    let audit = case.audit(site).await?;
    let detail = format!("each named, the slowest after {:.1} s", slowest.as_secs_f64());
    let runs = MISTAKES.len() as u64 * site.pick(2, 1);
    Ok(Proof { fault: "wrong credentials or certificates".to_owned(), runs, audit, recovery: None, detail })
}
