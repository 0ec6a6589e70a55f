//! Wrong settings: each is an error within seconds that says which one it is and what to do.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::net::TcpListener;

use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::Options;

/// The promise: an error within this time, the start of the process included.
const LIMIT: Duration = Duration::from_secs(10);

/// One mistake: what is changed, and what the error must say. Both may need the address of something that never answers.
struct Mistake {
    name: &'static str,
    make: fn(&mut Options, &str),
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "bucket",
        make: |options, _| options.bucket = "no-such-bucket".into(),
        says: &["no-such-bucket", "does not exist", "create the bucket"],
    },
    Mistake {
        name: "access key",
        make: |options, _| options.endpoint.access_key = "stranger".into(),
        says: &["refuses the credentials", "check the access key"],
    },
    Mistake {
        name: "secret key",
        make: |options, _| options.endpoint.secret_key = "guessed-wrong".into(),
        says: &["refuses the credentials", "check the access key"],
    },
    Mistake {
        name: "endpoint",
        make: |options, _| options.endpoint.url = "http://127.0.0.1:9".into(),
        says: &["http://127.0.0.1:9", "cannot be reached", "endpoint"],
    },
    Mistake {
        name: "broker",
        make: |options, _| options.brokers = "127.0.0.1:9".into(),
        says: &["127.0.0.1:9", "no broker", "check `brokers`"],
    },
    Mistake {
        name: "topic",
        make: |options, _| options.topics = vec!["no-such-topic".to_owned()],
        says: &["no-such-topic", "does not exist", "create it"],
    },
    Mistake {
        name: "endpoint that does not answer",
        make: |options, silent| options.endpoint.url = format!("http://{silent}"),
        says: &["http://{silent}", "did not answer", "endpoint"],
    },
    Mistake {
        name: "broker that does not answer",
        make: |options, silent| silent.clone_into(&mut options.brokers),
        says: &["{silent}", "no broker", "check `brokers`"],
    },
    Mistake {
        name: "everything at once",
        make: |options, _| {
            options.bucket = String::new();
            options.endpoint.region = "eu central".into();
            options.endpoint.url = "127.0.0.1:9000".into();
        },
        says: &["bucket \"\" is empty", "region \"eu central\"", "http://"],
    },
];

/// Makes every mistake, then none: what failed has left nothing behind.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "mistakes", 10_000).await?;
    case.produce().await?;
    // Connections are taken by the kernel; nobody reads what comes.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let silent = listener.local_addr()?.to_string();
    let mut slowest = Duration::ZERO;
    for mistake in MISTAKES {
        let mut options = case.options("worker");
        (mistake.make)(&mut options, &silent);
        let mut worker = case.start(&options)?;
        let message = worker.failure(LIMIT * 2).await?;
        let took = worker.age();
        tracing::info!("wrong {}, after {:.1} s: {message}", mistake.name, took.as_secs_f64());
        for part in mistake.says {
            let part = part.replace("{silent}", &silent);
            ensure!(
                message.contains(&part),
                "the error of a wrong {} does not say {part:?}: {message}",
                mistake.name
            );
        }
        ensure!(!message.contains(&options.endpoint.secret_key), "the error shows the secret: {message}");
        ensure!(took < LIMIT, "the error of a wrong {} came after {:.1} s", mistake.name, took.as_secs_f64());
        slowest = slowest.max(took);
    }
    ensure!(case.bucket.objects("").await?.is_empty(), "a worker with wrong settings has stored something");
    let mut options = case.options("worker");
    options.until_end = true;
    case.start(&options)?.finish(Duration::from_mins(1)).await?;
    let audit = case.audit(site).await?;
    let detail =
        format!("{} wrong settings named, the slowest after {:.1} s", MISTAKES.len(), slowest.as_secs_f64());
    Ok(Outcome::of("wrong settings", MISTAKES.len() as u64, audit, detail))
}
