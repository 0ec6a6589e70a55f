//! `cargo xtask bench formats`: what a conversion costs inside of a pipeline, against the same conversion in a bare loop and
//! against the floor of reading a record at all.
//!
//! Floor, pipeline and bare loop alternate, each in a process of its own. The bare loop makes as many files as the pipeline made
//! objects, of as many rows each, from records that are in memory already; what it costs is the time of its one thread. It sorts
//! nothing by path and stores nothing, which is why the pipeline is allowed more: see [`limit`].
//!
//! With many paths open, a segment is as many objects at least, and a request for each; and a batch has a few rows for each, which
//! are read back piece by piece. Such a pipeline is given larger segments and batches than the default, as its operator would
//! give it, and the run so many records that they matter: [`MANY_TUNING`].

mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tokio::task::spawn_blocking;
use xtask::load::audit::{self, Audit, audit};
use xtask::load::generate::{Encoding, Load};
use xtask::load::{Ledger, Spec};
use xtask::readers::{Around, Cell, Reader, Readers, Request};
use xtask::services::{Bucket, Cache, Options, Running};

use self::table::Row;
use super::child::{self, Child, Tuning, Worker};
use super::pages::Pages;
use super::worker::{Compression, Conversion, Measured, Until, Values};
use super::{BUCKET, Case, FEW, bare_put, check_only, floor, scratch, tell, write_json};

#[derive(Debug, Args)]
pub(crate) struct FormatsArguments {
    /// Records of a run with few paths; with many, four times as many
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Triples of floor, pipeline and bare loop; the median counts
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where servers and spool keep their data, about 20 GiB; not a tmpfs unless there is memory for it [default: the
    /// system's directory for temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the rows as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

const MANY: u32 = 1_000;
/// With many paths: an object of a path then has half a mebibyte and not an eighth of one, and is read back in half as many
/// pieces. The records have no headers, so none are looked for.
const MANY_TUNING: Tuning = Tuning { segment_mib: 512, batch_mib: 2, memory_mib: 48, headers: false };
/// How many times more records a run has if there are many paths: segments of that size would else be cut by the end.
const MANY_RECORDS: u64 = 4;

/// By encoding and number of paths, so that each topic is produced once.
const CASES: [(Conversion, u32); 6] = [
    (Conversion::AvroToParquet, FEW),
    (Conversion::AvroToJson, FEW),
    (Conversion::AvroToParquet, MANY),
    (Conversion::AvroToJson, MANY),
    (Conversion::JsonToParquet, FEW),
    (Conversion::JsonToParquet, MANY),
];

/// The most that a record may cost, in ns: a fifth more than to convert it, and two and a half times what it costs to read it at
/// all, which has to pay for taking over, routing, scratch, checksums and uploads.
fn limit(bare: f64, floor: f64) -> f64 {
    1.2 * bare + 2.5 * floor
}

/// The most memory a run may ever have, in MiB.
const PEAK_MIB_MAX: f64 = 192.0;

impl Conversion {
    fn case(self, paths: u32) -> Case {
        Case::new(self.values(), Compression::None, paths)
    }

    fn values(self) -> Values {
        match self {
            Self::AvroToParquet => Values::AvroToParquet,
            Self::JsonToParquet => Values::JsonToParquet,
            Self::AvroToJson => Values::AvroToJson,
        }
    }

    fn encoding(self) -> Encoding {
        match self {
            Self::AvroToParquet | Self::AvroToJson => Encoding::Avro,
            Self::JsonToParquet => Encoding::Json,
        }
    }
}

struct Bench {
    running: Running,
    readers: Readers,
    arguments: FormatsArguments,
    scratch: tempfile::TempDir,
    runs: usize,
}

impl FormatsArguments {
    pub(super) async fn run(self) -> Result<()> {
        check_only(&self.only, &CASES.map(|(conversion, paths)| conversion.case(paths).name()))?;
        let scratch = scratch(self.data.as_deref())?;
        tell("starting Kafka and the S3 server");
        let cache = Cache::from_env()?;
        let running = Running::start(&cache, &Options::at(scratch.path())).await?;
        let readers = spawn_blocking(move || Readers::install(&cache)).await??;
        let mut bench = Bench { running, readers, arguments: self, scratch, runs: 0 };
        let outcome = bench.cases().await;
        bench.running.stop().await?;
        let rows = outcome?;
        table::print(&rows);
        write_json(bench.arguments.json.as_deref(), &serde_json::json!({ "conversions": rows }))?;
        let over: Vec<&str> = rows.iter().filter(|row| !row.is_within()).map(Row::case).collect();
        ensure!(over.is_empty(), "over their limits: {}", over.join(", "));
        Ok(())
    }
}

impl Bench {
    async fn cases(&mut self) -> Result<Vec<Row>> {
        let only = self.arguments.only.clone();
        self.running.s3.endpoint().bucket(BUCKET).create().await?;
        let mut rows = Vec::new();
        let mut produced: Option<(Encoding, u32, String)> = None;
        for (conversion, paths) in CASES {
            let case = conversion.case(paths);
            if !case.name().contains(&only) {
                continue;
            }
            let records = self.arguments.records * if case.is_plain() { 1 } else { MANY_RECORDS };
            let (spec, encoding) = (case.spec(records), conversion.encoding());
            let topic = match produced.take() {
                Some((of, known, topic)) if (of, known) == (encoding, paths) => topic,
                former => {
                    if let Some((_, _, former)) = former {
                        self.running.kafka.topics()?.delete(&former).await?;
                    }
                    self.produce(&spec, encoding, paths).await?
                }
            };
            rows.push(self.case(conversion, case, &spec, &topic).await?);
            produced = Some((encoding, paths, topic));
        }
        Ok(rows)
    }

    async fn produce(&self, spec: &Spec, encoding: Encoding, paths: u32) -> Result<String> {
        let topic = format!("formats-{encoding:?}-{paths}").to_lowercase();
        tell(&format!("producing {} records to {topic}", spec.records));
        self.running.kafka.topics()?.recreate(&topic, spec.partitions.get(), &[]).await?;
        let load = Load { encoding, ..Load::of(spec.clone(), &topic) };
        let brokers = self.running.kafka.brokers();
        spawn_blocking(move || load.produce(&brokers)).await??;
        Ok(topic)
    }

    async fn case(&mut self, conversion: Conversion, case: Case, spec: &Spec, topic: &str) -> Result<Row> {
        let (name, pairs) = (case.name(), self.arguments.pairs);
        let (mut floors, mut runs, mut bares, mut stored_bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for pair in 1..=pairs {
            let say = |what: &str| tell(&format!("{name} {pair}/{pairs}: {what}"));
            let (dir, records) = (self.scratch.path().to_owned(), spec.records);
            let mut pages = spawn_blocking(move || Pages::bring_in(&dir, records)).await??;
            pages.begin();
            say("floor");
            floors.push(floor(&self.running.kafka.brokers(), spec, topic).await?);
            say("pipeline");
            let worker = self.worker(case, topic);
            pages.begin();
            let run = Child::spawn(&worker.command()?)?.with_pages(pages).done().await?;
            say("bare loop");
            bares.push(bare(conversion, spec.records, run.objects).await?);
            say("audit");
            stored_bytes = self.audit(conversion, &worker.prefix, spec, topic).await?;
            runs.push(run);
        }
        let mut row = Row::new(name, &floors, &runs, &bares)?;
        if !case.is_plain() {
            self.runs += 1;
            let (endpoint, prefix) = (self.running.s3.endpoint(), format!("run-{}", self.runs));
            row.without_objects(&bare_put(endpoint, &prefix, row.objects(), stored_bytes).await?);
        }
        Ok(row)
    }

    fn worker(&mut self, case: Case, topic: &str) -> Worker {
        self.runs += 1;
        Worker {
            values: case.values,
            compression: case.compression,
            until: Until::Store,
            brokers: self.running.kafka.brokers(),
            topic: topic.to_owned(),
            group: format!("formats-{}", self.runs),
            endpoint: self.running.s3.endpoint().clone(),
            bucket: BUCKET.to_owned(),
            prefix: format!("run-{}", self.runs),
            spool_dir: self.scratch.path().join("spool"),
            tuning: (!case.is_plain()).then_some(MANY_TUNING),
            follow: false,
        }
    }

    /// Every record is there once, or the benchmark ends; then the run's objects are removed. Answers their bytes.
    async fn audit(&self, conversion: Conversion, prefix: &str, spec: &Spec, topic: &str) -> Result<u64> {
        let bucket = self.running.s3.endpoint().bucket(BUCKET);
        let stored_bytes = match conversion {
            Conversion::AvroToJson => {
                let found = lines(&bucket, prefix, spec, topic).await?;
                ensure!(found.is_clean(), "{found}: {:?}", found.findings);
                found.stored_bytes
            }
            Conversion::AvroToParquet | Conversion::JsonToParquet => {
                let dir = tempfile::tempdir_in(self.scratch.path())?;
                let stored_bytes = download(&bucket, prefix, dir.path()).await?;
                self.columns(dir.path(), spec).await?;
                stored_bytes
            }
        };
        bucket.clear().await?;
        Ok(stored_bytes)
    }

    /// Counts by `DuckDB`; whether every value is right is for the integration run to tell.
    async fn columns(&self, dir: &Path, spec: &Spec) -> Result<()> {
        let readers = self.readers.clone();
        let pattern = dir.join("*.parquet");
        let request = Request { path: pattern, reader: Reader::Events, compression: Around::None };
        let told = spawn_blocking(move || readers.read(&[request])).await??;
        let contents = told.into_iter().next().context("no answer")?.map_err(anyhow::Error::msg)?;
        let found = contents.rows.first().context("no counts")?;
        let count = |value: u64| Cell::Int(i128::from(value));
        let wanted = Cell::record([
            ("rows", count(spec.records)),
            ("distinct", count(spec.records)),
            ("first", count(0)),
            ("last", count(spec.records - 1)),
            ("misplaced", count(0)),
            ("broken", count(0)),
        ]);
        match wanted.difference(found) {
            Some(difference) => bail!("the objects hold other records{difference}"),
            None => Ok(()),
        }
    }
}

async fn bare(conversion: Conversion, records: u64, files: u64) -> Result<Measured> {
    let mut command = child::this_program("bare")?;
    command
        .args(["--conversion", &child::name(&conversion)])
        .args(["--records", &records.to_string()])
        .args(["--files", &files.to_string()]);
    Child::spawn(&command)?.done().await
}

/// The events as lines are what they would have been as JSON from the beginning, so that the load's own audit judges them.
async fn lines(bucket: &Bucket, prefix: &str, spec: &Spec, topic: &str) -> Result<Audit> {
    let options = audit::Options {
        topic: topic.to_owned(),
        prefix: prefix.to_owned(),
        require_metadata: true,
        concurrency: 4,
    };
    let spec = spec.clone();
    let ledger = spawn_blocking(move || Ledger::generated(&spec, 0..spec.records)).await??;
    audit(bucket, &options, ledger).await
}

/// Answers the bytes of all objects.
async fn download(bucket: &Bucket, prefix: &str, dir: &Path) -> Result<u64> {
    let mut stored_bytes = 0;
    for (index, object) in bucket.objects(&format!("{prefix}/")).await?.into_iter().enumerate() {
        let (bytes, _) = bucket.read(&object.key).await?;
        stored_bytes += bytes.len() as u64;
        tokio::fs::write(dir.join(format!("{index}.parquet")), bytes).await?;
    }
    Ok(stored_bytes)
}
