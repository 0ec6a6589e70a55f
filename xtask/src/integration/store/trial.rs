//! One trial: a worker that reads a topic to its end through a proxy with a script, and the audit of what it has stored.
//!
//! Trials share topics and buckets; each has a group, a prefix, a spool and a proxy of its own, so several run at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tokio::task::spawn_blocking;
use xtask::load::audit::{self, Audit, audit, scan};
use xtask::load::{Spec, Spread};

use super::proxy::{Operation, Proxy, Rule};
use crate::integration::member::Member;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Compression, Format, Options, Rotation, SinkOptions, Summary};

/// How records are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// As JSON lines, gzipped.
    GzippedJson,
    /// As they are.
    Bytes,
}

/// How objects are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In one request.
    Single,
    /// In parts.
    Multipart,
}

/// The topics trials read: one partition, two hours, so two objects a segment.
pub(crate) struct Topics {
    small: Case,
    /// Its objects are larger than a part after compression.
    large: Case,
    /// Its objects are larger than a part as they are.
    medium: Case,
    /// The names of objects, as a trial without a fault has them.
    names: [OnceLock<Vec<String>>; 4],
}

impl Topics {
    /// Fills them.
    pub(crate) async fn new(site: &Site, names: [&'static str; 3]) -> Result<Self> {
        let [small, large, medium] = names;
        let (small, large, medium) = tokio::try_join!(
            filled(site, small, 1_200, 2),
            filled(site, large, LARGE, 2),
            filled(site, medium, MEDIUM, 2)
        )?;
        Ok(Self { small, large, medium, names: Default::default() })
    }

    fn case(&self, stored: Stored, shape: Shape) -> &Case {
        match (stored, shape) {
            (_, Shape::Single) => &self.small,
            (Stored::GzippedJson, Shape::Multipart) => &self.large,
            (Stored::Bytes, Shape::Multipart) => &self.medium,
        }
    }

    /// Removes everything.
    pub(crate) async fn remove(self, site: &Site) -> Result<()> {
        for case in [self.small, self.large, self.medium] {
            if !site.keep {
                case.remove().await?;
            }
        }
        Ok(())
    }
}

/// A case of one partition whose topic is filled.
pub(crate) async fn filled(site: &Site, name: &'static str, records: u64, hours: u32) -> Result<Case> {
    let hours = NonZeroU32::new(hours).context("no hours")?;
    let (partitions, spread) = (NonZeroU32::MIN, Spread::AllOpen);
    let spec = Spec { seed: site.seed, records, partitions, hours, spread, ..Spec::default() };
    let case = Case::of(site, name, spec).await?;
    case.produce().await?;
    Ok(case)
}

/// A place of its own in what trials share.
pub(crate) struct Trial<'a> {
    site: &'a Site,
    pub(crate) case: &'a Case,
    options: Options,
}

/// What became of a trial.
pub(crate) struct Ended {
    pub(crate) audit: Audit,
    pub(crate) summary: Summary,
    /// From the last fault to the first segment that is committed.
    pub(crate) recovery: Option<Duration>,
}

impl<'a> Trial<'a> {
    /// Of this name, which nobody else has.
    pub(crate) fn new(site: &'a Site, topics: &'a Topics, name: &str, stored: Stored, shape: Shape) -> Self {
        let mut trial = Self::of_case(site, topics.case(stored, shape), name);
        (trial.options.format, trial.options.compression) = match stored {
            Stored::GzippedJson => (Format::Json, Compression::Gzip),
            Stored::Bytes => (Format::Bytes, Compression::None),
        };
        // Two segments, or one large one.
        let records = trial.case.spec.records;
        let segment = if shape == Shape::Single { records / 2 } else { records };
        trial.options.rotation = vec![Rotation::Records(segment), Rotation::AgeMs(60_000)];
        trial
    }

    /// Of a case of its own.
    pub(crate) fn of_case(site: &'a Site, case: &'a Case, name: &str) -> Self {
        let mut options = case.options(name);
        options.group = format!("{}-{name}", case.group());
        name.clone_into(&mut options.prefix);
        options.until_end = true;
        options.rotation = vec![Rotation::Records(case.spec.records), Rotation::AgeMs(60_000)];
        options.s3 = SinkOptions {
            part_bytes: Some(5 << 20),
            // A fault that is met three times passes both the client's own retries and the lane's.
            attempts: Some(2),
            attempt_timeout_ms: Some(2_500),
            abort_stale_uploads: true,
        };
        Self { site, case, options }
    }

    /// Options of the sink, to be changed.
    pub(crate) fn sink(&mut self) -> &mut SinkOptions {
        &mut self.options.s3
    }

    /// What all its keys begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/", self.options.prefix)
    }

    /// A proxy with a script.
    pub(crate) async fn proxy(&self, rules: Vec<Rule>) -> Result<Proxy> {
        Proxy::open(self.site.servers.s3.endpoint(), rules).await
    }

    /// Another worker of the same group, that writes to the same place.
    pub(crate) fn successor(&self, proxy: &Proxy) -> Result<Member> {
        let name = format!("{}-successor", self.options.name);
        self.case.start(&Options { name, endpoint: proxy.endpoint().clone(), ..self.options.clone() })
    }

    /// A worker behind a proxy.
    pub(crate) fn start(&self, proxy: &Proxy) -> Result<Member> {
        self.case.start(&Options { endpoint: proxy.endpoint().clone(), ..self.options.clone() })
    }

    /// Runs the worker to the end of the topic; every fault of the script has to be met on the way.
    pub(crate) async fn goes_on(&self, rules: Vec<Rule>) -> Result<Ended> {
        let faults: u64 = rules.iter().filter_map(|rule| rule.times).sum();
        let proxy = self.proxy(rules).await?;
        let mut worker = self.start(&proxy)?;
        worker.until("its first segment", LIMIT, |seen| seen.published > 0).await?;
        let published = Instant::now();
        let summary = worker.finish(LIMIT).await?;
        let seen = proxy.seen();
        ensure!(seen.injected == faults, "{} of {faults} faults were met: {seen:?}", seen.injected);
        let recovery = seen.last.map(|last| published.saturating_duration_since(last));
        Ok(Ended { audit: self.audit().await?, summary, recovery })
    }

    /// Runs the worker until `rules` say so, kills it, and lets another one finish.
    pub(crate) async fn is_killed(&self, rules: Vec<Rule>) -> Result<Ended> {
        let proxy = self.proxy(rules).await?;
        let mut worker = self.start(&proxy)?;
        let killed = tokio::select! {
            met = proxy.until("the fault after which it is killed", LIMIT, |seen| seen.injected > 0) => met,
            () = worker.changed(|seen| seen.done.is_some()) => {
                Err(anyhow::anyhow!("it ended before it could be killed: {:?}", worker.seen()))
            }
        };
        killed?;
        worker.kill().await?;
        let since = Instant::now();
        drop(proxy);
        let ended = self.goes_on(Vec::new()).await?;
        ensure!(ended.summary.recovered > 0, "there was no cut to recover: {:?}", ended.summary);
        Ok(Ended { recovery: Some(since.elapsed()), ..ended })
    }

    /// Runs the worker until it stops with an error that says all of `says`. Nothing may have changed in the bucket but that the
    /// objects named by `left` are there.
    pub(crate) async fn stops(&self, rules: Vec<Rule>, says: &[&str], left: &[String]) -> Result<()> {
        let proxy = self.proxy(rules).await?;
        let message = self.start(&proxy)?.failure(LIMIT).await?;
        for part in [format!("s3://{}/{}", self.options.bucket, self.prefix())]
            .iter()
            .map(String::as_str)
            .chain(says.iter().copied())
        {
            ensure!(message.contains(part), "the error does not say {part:?}: {message}");
        }
        ensure!(!message.contains(&proxy.endpoint().secret_key), "the error shows the secret: {message}");
        let objects = self.case.bucket.objects(&self.prefix()).await?;
        let mut keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        keys.sort_unstable();
        ensure!(keys == left, "there is {keys:?} and should be {left:?}");
        let uploads = self.case.bucket.uploads(&self.prefix()).await?;
        ensure!(uploads.is_empty(), "uploads are left behind: {uploads:?}");
        Ok(())
    }

    /// The key of an object of this trial, counted in the order of offsets.
    pub(crate) fn key(&self, topics: &Topics, stored: Stored, shape: Shape, index: usize) -> Result<String> {
        let slot = usize::from(stored == Stored::Bytes) + 2 * usize::from(shape == Shape::Multipart);
        let names = topics.names.get(slot).and_then(OnceLock::get);
        let name = names.and_then(|names| names.get(index)).context("no trial without a fault has run")?;
        Ok(format!("{}{name}", self.prefix()))
    }

    /// Remembers the names of its objects.
    pub(crate) async fn note_names(&self, topics: &Topics, stored: Stored, shape: Shape) -> Result<()> {
        let slot = usize::from(stored == Stored::Bytes) + 2 * usize::from(shape == Shape::Multipart);
        let prefix = self.prefix();
        let objects = self.case.bucket.objects(&prefix).await?;
        let names = objects.iter().filter_map(|object| object.key.strip_prefix(&prefix));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable_by_key(|name| name.rsplit('+').next().map(str::to_owned));
        if let Some(known) = topics.names.get(slot) {
            known.set(names).ok();
        }
        Ok(())
    }

    /// Puts somebody else's object under `key`.
    pub(crate) async fn occupy(&self, key: &str) -> Result<()> {
        self.case.bucket.write(key, Bytes::from_static(FOREIGN), HashMap::new()).await
    }

    /// Looks whether it is still there, and takes it away.
    pub(crate) async fn vacate(&self, key: &str) -> Result<()> {
        let (body, metadata) = self.case.bucket.read(key).await?;
        ensure!(body == FOREIGN && metadata.is_empty(), "an object of somebody else was changed: {key}");
        let client = self.case.bucket.client();
        client.delete_object().bucket(self.case.bucket.name()).key(key).send().await?;
        Ok(())
    }

    /// Counts what became of every event, below its prefix.
    pub(crate) async fn audit(&self) -> Result<Audit> {
        let (brokers, topic) = (self.case.brokers.clone(), self.case.topic.clone());
        let scanned = spawn_blocking(move || scan(&brokers, &topic)).await??;
        let options = audit::Options {
            topic: self.case.topic.clone(),
            prefix: self.prefix(),
            require_metadata: true,
            concurrency: 2,
        };
        audit(&self.case.bucket, &options, scanned.ledger).await
    }
}

/// The operation that makes an object visible.
impl Shape {
    pub(crate) fn visible_by(self) -> Operation {
        match self {
            Self::Single => Operation::Put,
            Self::Multipart => Operation::Complete,
        }
    }
}

const FOREIGN: &[u8] = b"somebody else's";
/// Events of 500 bytes: after gzip an hour of them is larger than a part of 5 MiB.
const LARGE: u64 = 110_000;
const MEDIUM: u64 = 26_000;
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
