//! A schema registry that goes away while new schemas arrive, and one that says that there is no such schema.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::Producer as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use super::judge::{Found, Judge};
use super::orders::{Version, Versions, framed};
use super::produce::{self, Orders, Place};
use super::{in_topic, read_all};
use crate::integration::data::poison::read_letters;
use crate::integration::member::Member;
use crate::integration::objects::download;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::{Compression, Format, Layout, Letters, OnPoison, Rotation, Sharing};

const PATIENCE: Duration = Duration::from_secs(40);
/// An id that the registry does not have.
const UNKNOWN: u32 = 4_000_000;

/// Three times a schema that nobody has met comes to one partition while the registry cannot be asked: killed, frozen, answering
/// 500. That lane waits and says so, the others go on; a worker that starts meanwhile waits with all of its lanes. Nothing becomes
/// a letter but what names a schema that the registry says it does not have.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let home = site.registry().await?.url();
    let gate = Gate::open(&home).await?;
    let case = Case::new(site, "registry", 1).await?;
    let letters = format!("{}-letters", case.topic);
    case.topics().recreate(&letters, 1, &[]).await?;
    let versions = Versions::register(&home, &case.topic, 5).await?;
    let mut options = case.options("worker");
    options.format = Format::Orders(Sharing::Backward);
    options.compression = Compression::None;
    options.layout = vec![Layout::Field("city".to_owned())];
    options.rotation = vec![Rotation::AgeMs(1_000)];
    options.registry = Some(gate.url.clone());
    options.on_poison = OnPoison::DeadLetter(Letters::Topic(letters.clone()));
    options.properties.insert("group.instance.id".to_owned(), "registry".to_owned());
    options.properties.insert("session.timeout.ms".to_owned(), "30000".to_owned());
    let flow = Orders::flow(&case.brokers, &case.topic, case.partitions(), 400, versions.clone());
    let mut worker = case.start(&options)?;
    worker.until("its first segments", ASSIGNMENT, |seen| seen.published >= 4).await?;
    let mut trial = Trial {
        case: &case,
        flow: &flow,
        outage: Duration::from_secs(site.pick(20, 3)),
        said: BTreeSet::new(),
    };
    let (mut segments, mut slowest) = (Vec::new(), Duration::ZERO);

    // Killed, and the worker with it: its successor knows no schema at all.
    site.registry().await?.kill().await?;
    trial.waits(&mut worker, Version(3)).await?;
    segments.extend(worker.kill_told().await?.segments);
    worker = case.start(&options)?;
    worker.until("what it waits for", PATIENCE, |seen| seen.retrying.is_some()).await?;
    tokio::time::sleep(trial.outage).await;
    trial.is_waiting(&worker, 0)?;
    site.registry().await?.start().await.context("the registry does not come back")?;
    slowest = slowest.max(trial.goes_on(&mut worker).await?);

    // Frozen: it takes connections and does not answer.
    site.registry().await?.process()?.suspend()?;
    trial.waits(&mut worker, Version(4)).await?;
    site.registry().await?.process()?.resume()?;
    slowest = slowest.max(trial.goes_on(&mut worker).await?);

    // It has lost its own database.
    gate.fails(true);
    trial.waits(&mut worker, Version(5)).await?;
    gate.fails(false);
    slowest = slowest.max(trial.goes_on(&mut worker).await?);
    let said = trial.said;

    send_unknown(&case).await?;
    flow.stop().await?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    segments.extend(worker.terminate_told().await?.segments);
    let unknown = check_letters(&case, &letters).await?;

    let orders = in_topic(&case, &versions).await?;
    let dir = tempfile::tempdir()?;
    let objects = download(&case.bucket, &options.prefix, dir.path()).await?;
    let contents = read_all(Judge::requests(&objects)).await?;
    let judge = Judge {
        prefix: &options.prefix,
        topic: &case.topic,
        sharing: Sharing::Backward,
        orders: &orders,
        segments: &segments,
    };
    let Found { audit, values, .. } = judge.judge(&objects, &contents)?;
    let detail = format!(
        "{unknown} letters, each of a schema that the registry does not have; {values} values compared; it said: {}",
        Vec::from_iter(said).join(" | ")
    );
    let proof = Proof::of("registry killed, frozen, failing", 3, audit, detail);
    let outcome = Outcome::default().and(Proof { recovery: Some(slowest), ..proof });
    if outcome.is_clean() {
        case.topics().delete(&letters).await?;
        case.remove().await?;
    }
    Ok(outcome)
}

/// The outages, one after the other.
struct Trial<'a> {
    case: &'a Case,
    flow: &'a Orders,
    outage: Duration,
    /// What workers said that they wait for.
    said: BTreeSet<String>,
}

impl Trial<'_> {
    /// A version that nobody has met comes to partition 0: that lane waits for its schema and says so, the others go on.
    async fn waits(&mut self, worker: &mut Member, version: Version) -> Result<()> {
        self.flow.alone(Some(version));
        worker.until("the wait for a schema", PATIENCE, |seen| seen.retrying.is_some()).await?;
        // What was in flight before comes to its end.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = worker.seen();
        tokio::time::sleep(self.outage).await;
        let after = worker.seen();
        self.is_waiting(worker, 3)?;
        let reached = |seen: &crate::integration::member::Seen, partition: u32| {
            let lane = format!("{}[{partition}]", self.case.topic);
            seen.reached.get(&lane).map_or(0, |(end, _)| *end)
        };
        for partition in 0..self.case.partitions() {
            let went_on = reached(&after, partition) > reached(&before, partition);
            ensure!(
                went_on == (partition > 0),
                "partition {partition} {} while the schema of another could not be had",
                if went_on { "went on" } else { "stood still" }
            );
        }
        Ok(())
    }

    /// It says what it waits for, has all its lanes, and sends nothing away as bad.
    fn is_waiting(&mut self, worker: &Member, published: u64) -> Result<()> {
        let seen = worker.seen();
        let reason = seen.retrying.clone().context("nothing is said to be tried again")?;
        ensure!(reason.contains("registry"), "it waits for something else: {reason}");
        ensure!(seen.failed.is_none() && seen.lanes.len() == 4, "it has lost its lanes: {seen:?}");
        ensure!(seen.published >= published, "{seen:?}");
        self.said.insert(reason);
        Ok(())
    }

    /// Waits until everything that stood in the topic when the registry was back is stored; answers how long that took.
    async fn goes_on(&self, worker: &mut Member) -> Result<Duration> {
        let back = Instant::now();
        self.flow.alone(None);
        let behind: Vec<_> =
            self.case.marks().await?.into_iter().map(|place| (place.partition, place.end)).collect();
        let topic = self.case.topic.clone();
        worker
            .until("everything behind the outage", PATIENCE, |seen| {
                behind.iter().all(|(partition, end)| {
                    seen.reached
                        .get(&format!("{topic}[{partition}]"))
                        .is_some_and(|(reached, _)| reached >= end)
                })
            })
            .await?;
        Ok(back.elapsed())
    }
}

/// Records that name a schema which the registry does not have, two to each partition, among the others.
async fn send_unknown(case: &Case) -> Result<()> {
    let (brokers, topic, partitions) = (case.brokers.clone(), case.topic.clone(), case.partitions());
    spawn_blocking(move || {
        let producer = produce::producer(&brokers)?;
        let mut value = framed(UNKNOWN);
        value.push(2);
        for _ in 0..2 {
            for partition in 0..i32::try_from(partitions)? {
                produce::send(&producer, &topic, partition, Some(&value), STRANGER)?;
            }
            // Good ones come between them.
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(producer.flush(PATIENCE)?)
    })
    .await?
}

/// The key of those.
const STRANGER: &str = "stranger";

/// Each of those is a letter, and nothing else is. Answers how many.
async fn check_letters(case: &Case, topic: &str) -> Result<u64> {
    let stands = produce::scan(&case.brokers, &case.topic, case.partitions()).await?;
    let strangers = stands.iter().filter(|(_, record)| record.key == STRANGER.as_bytes());
    let mut missing: BTreeSet<Place> = strangers.map(|(place, _)| *place).collect();
    let count = missing.len() as u64;
    for letter in read_letters(case, topic).await? {
        let place =
            (letter.header("aqueduct.partition")?.parse()?, letter.header("aqueduct.offset")?.parse()?);
        let says = letter.header("__connect.errors.exception.message")?;
        ensure!(missing.remove(&place), "a letter of a good record, or a second one, at {place:?}: {says}");
        ensure!(says.contains(&UNKNOWN.to_string()), "the letter does not name the schema: {says}");
    }
    ensure!(count > 0 && missing.is_empty(), "no letters of {missing:?}");
    Ok(count)
}

/// A way to the registry on which it can be made to answer 500.
struct Gate {
    url: String,
    fails: Arc<watch::Sender<bool>>,
    _tasks: JoinSet<()>,
}

impl Gate {
    /// Opens one before the registry at `home`, `http://address/path`.
    async fn open(home: &str) -> Result<Self> {
        let split = home.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        let (address, path) = split.with_context(|| format!("{home} is no http://ip:port/path"))?;
        let upstream: SocketAddr = address.parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/{path}", listener.local_addr()?);
        let fails = Arc::new(watch::Sender::new(false));
        let mut tasks = JoinSet::new();
        let told = Arc::clone(&fails);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            // An error ends the trial: nobody is let through any more.
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, upstream, told.subscribe()));
            }
        });
        Ok(Self { url, fails, _tasks: tasks })
    }

    /// Whether it answers 500 from now on. Connections that are open end.
    fn fails(&self, fails: bool) {
        self.fails.send_replace(fails);
    }
}

/// Serves one connection, until it breaks or the gate is turned.
async fn pass(mut client: TcpStream, upstream: SocketAddr, mut turned: watch::Receiver<bool>) {
    if *turned.borrow_and_update() {
        // A request without a body is one packet on this machine; what it says does not matter.
        let mut request = [0; 4 << 10];
        if client.read(&mut request).await.is_ok() {
            client.write_all(REFUSAL).await.ok();
        }
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    tokio::select! {
        broken = copy_bidirectional(&mut client, &mut server) => drop(broken),
        _ = turned.changed() => {}
    }
}

const REFUSAL: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
