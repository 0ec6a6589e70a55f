//! Every converter with every format, compression and layout: typed records with values at their edges, written by encoders that
//! are not ours, read back from the bucket by readers that are not ours, and compared field by field.
//!
//! A converter is one entry of [`encode::ENCODINGS`], a format one variant of [`storage::Kind`]. The slice runs as many
//! combinations as it takes for every two choices to meet; a whole run runs all of them.

mod calendar;
mod check;
mod columns;
mod encode;
mod layout;
mod pairs;
mod produce;
mod run;
mod storage;
mod truth;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aqueduct::RegistryClient;
use aqueduct::schema_registry::NewSchema;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;
use xtask::load::audit::Audit;
use xtask::readers::{Contents, Readers, Request};
use xtask::services::{Bucket, Cache};

pub(crate) use self::calendar::Moment;
use self::check::{Check, Compared};
pub(crate) use self::encode::avro;
use self::encode::{ENCODINGS, Encoding, Frame};
use self::layout::Layout;
pub(crate) use self::layout::hour;
use self::produce::{PARTITIONS, Topic};
use self::run::{Ended, Run};
use self::storage::Storage;
use super::data::poison::{Letter, read_letters_blocking};
use super::objects::{Object, download};
use super::proof::Outcome;
use super::scenario::Site;

/// One of each.
#[derive(Clone, Copy)]
pub(crate) struct Combination {
    encoding: &'static Encoding,
    storage: Storage,
    layout: Layout,
}

impl Combination {
    /// The name of its group, its prefix and its pipeline.
    fn name(&self) -> String {
        format!("{}.{}.{}", self.encoding.name, self.storage.name(), self.layout.name())
    }

    /// What is chosen, for pairs of it to meet.
    fn choices(&self) -> [&'static str; 4] {
        [self.encoding.name, self.storage.format.name(), self.storage.codec, self.layout.name()]
    }

    /// The other half takes them for poison.
    fn skips_tombstones(&self) -> bool {
        self.name().len().is_multiple_of(2)
    }
}

/// All that there are: what cannot be combined is no combination.
fn combinations() -> Vec<Combination> {
    let mut all = Vec::new();
    for encoding in ENCODINGS {
        for storage in Storage::all().filter(|storage| storage.format.takes() == encoding.gives) {
            for layout in Layout::ALL {
                if encoding.has_fields || !layout.needs_fields() {
                    all.push(Combination { encoding, storage, layout });
                }
            }
        }
    }
    all
}

/// Good records a partition.
const RECORDS: i64 = 160;
/// Pipelines at a time.
const AT_ONCE: usize = 4;
/// Combinations that are read back by one process.
const READ_AT_ONCE: usize = 40;

const BUCKET: &str = "matrix-objects";

pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let cache = Cache::from_env()?;
    let readers = spawn_blocking(move || Readers::install(&cache)).await??;
    let all = combinations();
    let chosen = if site.ci { pairs::covering(&all) } else { all };
    let bucket = site.servers.s3.endpoint().bucket(BUCKET);
    bucket.create().await?;
    bucket.clear().await?;
    let registry = site.registry().await?.url();
    let topics = produce_all(site, &registry).await?;

    let started = Instant::now();
    let dir = tempfile::tempdir()?;
    let mut total = Total::default();
    for some in chosen.chunks(READ_AT_ONCE) {
        let site = &*site;
        let ran: Vec<Ran> = futures::stream::iter(some)
            .map(|combination| one(site, *combination, &registry, &topics, &bucket, dir.path()))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        read_and_compare(&readers, &topics, ran, &mut total).await?;
    }
    if !site.keep {
        bucket.delete().await?;
        let names = site.servers.kafka.topics()?;
        for encoding in ENCODINGS {
            names.delete(&topic_name(encoding)).await?;
        }
    }
    let Total { compared: Compared { objects, rows, values }, letters, skipped } = total;
    let count = chosen.len() as u64;
    let detail = format!(
        "{count} combinations in {} s: {objects} objects, {values} values compared, {letters} letters, {skipped} tombstones skipped",
        started.elapsed().as_secs()
    );
    // Whatever is missing, there twice, elsewhere or another value has ended the scenario before.
    let audit = Audit { records: rows, rows, objects, ..Audit::default() };
    Ok(Outcome::of("converter × format × compression × layout", count, audit, detail))
}

#[derive(Default)]
struct Total {
    compared: Compared,
    letters: u64,
    skipped: u64,
}

fn topic_name(encoding: &Encoding) -> String {
    format!("matrix-{}", encoding.name)
}

/// Makes the topics, and the registry know the schemas.
async fn produce_all(site: &Site, registry: &str) -> Result<BTreeMap<&'static str, Topic>> {
    let registry = RegistryClient::builder(registry).build()?;
    let (names, seed) = (site.servers.kafka.topics()?, site.seed);
    let mut topics = BTreeMap::new();
    for encoding in ENCODINGS {
        let (name, brokers) = (topic_name(encoding), site.servers.kafka.brokers());
        names.recreate(&name, PARTITIONS.unsigned_abs(), &[]).await?;
        let id = match encoding.frame {
            Frame::Nothing => 0,
            Frame::Registry { kind, schema, .. } => {
                registry.register(&format!("{name}-value"), &NewSchema::new(kind, schema)).await?
            }
        };
        let produced = spawn_blocking(move || {
            let topic = produce::plan(encoding, seed, RECORDS);
            produce::produce(&brokers, &name, encoding, id, &topic)?;
            anyhow::Ok(topic)
        });
        topics
            .insert(encoding.name, produced.await?.with_context(|| format!("producing {}", encoding.name))?);
    }
    Ok(topics)
}

/// A combination whose pipeline has ended.
struct Ran {
    combination: Combination,
    objects: Vec<Object>,
    ended: Ended,
}

async fn one(
    site: &Site,
    combination: Combination,
    registry: &str,
    topics: &BTreeMap<&'static str, Topic>,
    bucket: &Bucket,
    dir: &std::path::Path,
) -> Result<Ran> {
    let name = combination.name();
    let (topic, letters) = (topic_name(combination.encoding), format!("{name}.letters"));
    let (names, brokers) = (site.servers.kafka.topics()?, site.servers.kafka.brokers());
    names.recreate(&letters, 1, &[]).await?;
    let run = Run {
        combination,
        brokers: &brokers,
        topic: &topic,
        letters: &letters,
        registry,
        endpoint: site.servers.s3.endpoint(),
        bucket: bucket.name(),
        spool_dir: site.spools.join(&name),
    };
    let ended = (combination.encoding.run)(&run).await.with_context(|| name.clone())?;
    let expected = check::letters(topics.get(combination.encoding.name).context("no topic")?, &combination);
    let read = {
        let (brokers, letters) = (brokers.clone(), letters.clone());
        spawn_blocking(move || read_letters_blocking(&brokers, &letters)).await??
    };
    let found = compare_letters(&read, &expected).with_context(|| name.clone())?;
    ensure!(ended.dead_letters == found, "{name}: {ended:?} and {found} letters");
    names.delete(&letters).await?;
    let objects = download(bucket, &name, dir).await?;
    Ok(Ran { combination, objects, ended })
}

/// Each bad record has its letter, and no other has one.
fn compare_letters(letters: &[Letter], expected: &check::Letters) -> Result<u64> {
    let mut missing = expected.clone();
    for letter in letters {
        let place =
            (letter.header("aqueduct.partition")?.parse()?, letter.header("aqueduct.offset")?.parse()?);
        let reason = letter.header("aqueduct.reason")?;
        let wanted = missing.remove(&place);
        let says = letter.header("__connect.errors.exception.message")?;
        ensure!(
            wanted.is_some_and(|(_, wanted)| wanted == reason),
            "the letter of {place:?} is {reason}, expected {wanted:?}: {says}"
        );
    }
    ensure!(missing.is_empty(), "no letters of {missing:?}");
    Ok(letters.len() as u64)
}

async fn read_and_compare(
    readers: &Readers,
    topics: &BTreeMap<&'static str, Topic>,
    ran: Vec<Ran>,
    total: &mut Total,
) -> Result<()> {
    let requests: Vec<Request> = ran
        .iter()
        .flat_map(|ran| ran.objects.iter().flat_map(|object| check::requests(object, &ran.combination)))
        .collect();
    let readers = readers.clone();
    let contents = spawn_blocking(move || readers.read(&requests)).await??;
    let mut rest = contents.as_slice();
    for Ran { combination, objects, ended } in &ran {
        let count = objects.len() * combination.storage.format.readers().len();
        let (contents, others): (&[Result<Contents, String>], _) =
            rest.split_at_checked(count).context("files are missing")?;
        rest = others;
        let topic = topics.get(combination.encoding.name).context("no topic")?;
        let check = Check { combination, topic_name: &topic_name(combination.encoding), topic };
        let compared = check.objects(objects, contents).with_context(|| combination.name())?;
        ensure!(compared.rows == ended.rows, "{}: {ended:?} and {compared:?}", combination.name());
        total.compared.objects += compared.objects;
        total.compared.rows += compared.rows;
        total.compared.values += compared.values;
        total.letters += ended.dead_letters;
        total.skipped += ended.skipped;
    }
    Ok(())
}
