//! What all scenarios stand on: servers, a topic and a bucket of their own, a load, and the audit at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::{JoinHandle, spawn_blocking};
use xtask::load::audit::{self, Audit, audit, scan};
use xtask::load::generate::{Load, RecordTime};
use xtask::load::{Ledger, Spec, Spread};
use xtask::services::{Bucket, Cache, Endpoint, Registry, Running, Topics};

use super::host::SmallDisk;
use super::marks::{self, Place};
use super::member::Member;
use super::proof::{Outcome, Proof};
use crate::worker::{
    Access, Compression, Format, Host, Layout, OnPoison, Options, Rotation, SinkOptions, Skip,
};

/// The servers and directories of a run.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) servers: Running,
    /// Started by the first who asks for it.
    pub(crate) registry: Option<Registry>,
    /// Scratch of the workers.
    pub(crate) spools: PathBuf,
    /// What the workers log.
    pub(crate) logs: PathBuf,
    pub(crate) seed: u64,
    /// A slice: smaller counts, all kinds of trouble.
    pub(crate) ci: bool,
    /// Leave topics and buckets as they are.
    pub(crate) keep: bool,
}

impl Site {
    /// The schema registry, whether it is up or not.
    pub(crate) async fn registry(&mut self) -> Result<&mut Registry> {
        let registry = if let Some(registry) = self.registry.take() {
            registry
        } else {
            let home = self.logs.with_file_name("registry");
            let launched = Registry::launch(&Cache::from_env()?, &home).await;
            launched.context("the schema registry cannot be started")?
        };
        Ok(self.registry.insert(registry))
    }

    /// Brings the servers back that a scenario has left in trouble when it failed.
    pub(crate) async fn repair(&mut self) -> Result<()> {
        let (kafka, s3) = (&mut self.servers.kafka, &mut self.servers.s3);
        if kafka.is_alive() {
            kafka.process()?.resume()?;
        } else {
            kafka.start().await.context("the broker does not come back")?;
        }
        if s3.is_alive() {
            s3.process()?.resume()?;
        } else {
            s3.start().await.context("the S3 server does not come back")?;
        }
        if let Some(registry) = &mut self.registry {
            if let Ok(process) = registry.process() {
                process.resume()?;
            }
            registry.start().await.context("the schema registry does not come back")?;
        }
        Ok(())
    }

    /// One number for a whole run, another for its slice.
    pub(crate) fn pick<T>(&self, whole: T, slice: T) -> T {
        if self.ci { slice } else { whole }
    }
}

/// One scenario's topic, group and bucket.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) topic: String,
    pub(crate) brokers: String,
    pub(crate) bucket: Bucket,
    pub(crate) spec: Spec,
    endpoint: Endpoint,
    topics: Topics,
    spools: PathBuf,
    logs: PathBuf,
    keep: bool,
}

impl Case {
    /// Creates the topic and the bucket, both named after the scenario.
    pub(crate) async fn new(site: &Site, name: &'static str, records: u64) -> Result<Self> {
        Self::of(site, name, Self::spec(site, records)).await
    }

    /// The same with other events.
    pub(crate) async fn of(site: &Site, name: &'static str, spec: Spec) -> Result<Self> {
        let (brokers, topics) = (site.servers.kafka.brokers(), site.servers.kafka.topics()?);
        let case = Self::at(site, name, spec, brokers, topics);
        case.prepare(&[]).await?;
        Ok(case)
    }

    /// The same, with settings of the topic.
    pub(crate) async fn with(
        site: &Site,
        name: &'static str,
        records: u64,
        config: &[(&str, &str)],
    ) -> Result<Self> {
        let (brokers, topics) = (site.servers.kafka.brokers(), site.servers.kafka.topics()?);
        let case = Self::at(site, name, Self::spec(site, records), brokers, topics);
        case.prepare(config).await?;
        Ok(case)
    }

    /// The same, on other brokers.
    pub(crate) async fn on(site: &Site, name: &'static str, brokers: String, topics: Topics) -> Result<Self> {
        let case = Self::at(site, name, Self::spec(site, 1_000_000), brokers, topics);
        case.prepare(&[]).await?;
        Ok(case)
    }

    /// Every segment has several objects: publishing it takes several requests.
    fn spec(site: &Site, records: u64) -> Spec {
        Spec { seed: site.seed, records, spread: Spread::AllOpen, ..Spec::default() }
    }

    fn at(site: &Site, name: &'static str, spec: Spec, brokers: String, topics: Topics) -> Self {
        let endpoint = site.servers.s3.endpoint().clone();
        Self {
            name,
            topic: format!("{name}-events"),
            brokers,
            bucket: endpoint.bucket(&format!("{name}-objects")),
            spec,
            endpoint,
            topics,
            spools: site.spools.clone(),
            logs: site.logs.clone(),
            keep: site.keep,
        }
    }

    async fn prepare(&self, config: &[(&str, &str)]) -> Result<()> {
        self.topics.recreate(&self.topic, self.partitions(), config).await?;
        self.bucket.create().await?;
        self.bucket.clear().await
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.spec.partitions.get()
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The consumer group.
    pub(crate) fn group(&self) -> String {
        format!("{}-group", self.name)
    }

    /// Options of a worker named `worker`, to be changed as the scenario needs: JSON by service and hour, gzipped, cut by age.
    pub(crate) fn options(&self, worker: &str) -> Options {
        Options {
            name: worker.to_owned(),
            brokers: self.brokers.clone(),
            topics: vec![self.topic.clone()],
            group: self.group(),
            group_protocol: "classic".to_owned(),
            properties: BTreeMap::new(),
            adopt_foreign_marks: false,
            endpoint: self.endpoint.clone(),
            bucket: self.bucket.name().to_owned(),
            prefix: "topics".to_owned(),
            spool_dir: self.spools.join(self.name),
            format: Format::Json,
            compression: Compression::Gzip,
            layout: vec![Layout::Hourly("Asia/Seoul".to_owned())],
            rotation: vec![Rotation::AgeMs(700)],
            on_poison: OnPoison::Stop,
            until_end: false,
            memory: None,
            disk: None,
            access: Access::default(),
            skip: Skip::default(),
            host: Host::default(),
            s3: SinkOptions::default(),
            registry: None,
            redrive: None,
            tables: None,
        }
    }

    /// Starts a worker; its log is named after the scenario and `options.name`.
    pub(crate) fn start(&self, options: &Options) -> Result<Member> {
        Member::start(&format!("{}-{}", self.name, options.name), options, None, &self.logs)
    }

    /// As [`start`](Self::start), with a small disk for its spool.
    pub(crate) fn start_on(&self, disk: &SmallDisk, options: &Options) -> Result<Member> {
        Member::start(&format!("{}-{}", self.name, options.name), options, Some(disk), &self.logs)
    }

    /// Produces the spec's events as fast as it goes.
    pub(crate) async fn produce(&self) -> Result<()> {
        self.produce_range(0..self.spec.records).await
    }

    /// Produces some of the spec's events as fast as it goes.
    pub(crate) async fn produce_range(&self, range: Range<u64>) -> Result<()> {
        let load = Load { range, ..Load::of(self.spec.clone(), &self.topic) };
        let brokers = self.brokers.clone();
        spawn_blocking(move || load.produce(&brokers)).await??;
        Ok(())
    }

    /// Produces events at `rate` a second until told to stop.
    pub(crate) fn flow(&self, rate: u64) -> Flow {
        self.flow_of(rate, RecordTime::Event)
    }

    /// The same with timestamps of now, where brokers are killed: one that comes back forgets idempotent producers whose last
    /// record is older than a day by its timestamp, and takes what they send again for new.
    pub(crate) fn flow_over_restarts(&self, rate: u64) -> Flow {
        self.flow_of(rate, RecordTime::Now)
    }

    fn flow_of(&self, rate: u64, record_time: RecordTime) -> Flow {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (spec, topic, brokers) = (self.spec.clone(), self.topic.clone(), self.brokers.clone());
        let task = spawn_blocking(move || {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                let range = next..next + (rate / 2).max(1);
                next = range.end;
                let load = Load { range, rate: Some(rate), record_time, ..Load::of(spec.clone(), &topic) };
                load.produce(&brokers)?;
            }
            Ok(next)
        });
        Flow { stop, task }
    }

    /// What stands in Kafka.
    pub(crate) async fn marks(&self) -> Result<Vec<Place>> {
        self.marks_of(&self.group()).await
    }

    /// What stands in Kafka for another group.
    pub(crate) async fn marks_of(&self, group: &str) -> Result<Vec<Place>> {
        marks::read(&self.brokers, group, &self.topic, self.partitions()).await
    }

    /// Waits until everything in the topic is published and committed, while `members` work on it.
    pub(crate) async fn drained(&self, members: &[&Member], limit: Duration) -> Result<()> {
        self.drained_of(&self.group(), members, limit).await
    }

    /// The same for another group.
    pub(crate) async fn drained_of(&self, group: &str, members: &[&Member], limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let places = self.marks_of(group).await?;
            if places.iter().all(Place::is_drained) {
                return Ok(());
            }
            if let Some(message) = members.iter().find_map(|member| member.seen().failed) {
                bail!("a worker has failed: {message}");
            }
            ensure!(
                Instant::now() < deadline,
                "not everything is committed after {} s: {}; workers have {:?}",
                limit.as_secs(),
                Listed(&places),
                members.iter().map(|member| member.seen()).collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The events the topic holds now. The scan shares nothing with the workers.
    pub(crate) async fn scan(&self) -> Result<Ledger> {
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        Ok(spawn_blocking(move || scan(&brokers, &topic)).await??.ledger)
    }

    /// Counts what became of every event of the topic, then removes topic and bucket.
    pub(crate) async fn audit(&self, site: &Site) -> Result<Audit> {
        let found = self.audit_of(site, self.scan().await?, "").await?;
        if found.is_clean() {
            self.remove().await?;
        }
        Ok(found)
    }

    /// Counts what became of every event of `ledger` in the objects below `prefix`: of a topic that held more once, or of another.
    pub(crate) async fn audit_of(&self, site: &Site, ledger: Ledger, prefix: &str) -> Result<Audit> {
        let options = audit::Options {
            topic: self.topic.clone(),
            prefix: prefix.to_owned(),
            require_metadata: true,
            concurrency: 4,
        };
        let mut found = audit(&self.bucket, &options, ledger).await?;
        found.add_forgotten_uploads(site.servers.s3.unfinished_uploads()?);
        Ok(found)
    }

    /// The partition and the first offset that an object's key names.
    pub(crate) fn place_of(key: &str) -> Result<(i32, i64)> {
        let mut parts = key.rsplit('/').next().unwrap_or_default().split('+').skip(1);
        let partition: Option<i32> = parts.next().and_then(|part| part.parse().ok());
        let offset = parts.next().and_then(|part| part.split('.').next()?.parse::<i64>().ok());
        partition.zip(offset).with_context(|| format!("key {key} has another form than expected"))
    }

    /// Removes topic and bucket, unless they are to be kept.
    pub(crate) async fn remove(&self) -> Result<()> {
        if !self.keep {
            self.bucket.delete().await.context("after the audit")?;
            self.topics.delete(&self.topic).await.context("after the audit")?;
        }
        Ok(())
    }
}

/// Audits cases that ran at the same time, now that none of them has an upload under way.
pub(crate) async fn audited(site: &Site, cases: Vec<(Case, Proof)>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (case, proof) in cases {
        outcome = outcome.and(Proof { audit: case.audit(site).await?, ..proof });
    }
    Ok(outcome)
}

/// A producer in the background.
#[derive(Debug)]
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<u64>>,
}

impl Flow {
    /// Ends it and answers how many events there are now.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await?
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Places in one line.
pub(crate) struct Listed<'a>(pub(super) &'a [Place]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.0.iter().enumerate() {
            write!(f, "{}{place}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
