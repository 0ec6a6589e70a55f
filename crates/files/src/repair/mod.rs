//! Repaired records as objects beside those of the pipeline, each record in one of them at most.
//!
//! ```text
//! {prefix}/{topic}/_repairs/{topic}+{partition}+{n, 10 digits}.json         claim n: which records, in which objects
//! {prefix}/{topic}/_repairs/{topic}+{partition}+{n, 10 digits}.done         everything of claim n is visible
//! {prefix}/{topic}/{route}/{topic}+{partition}+{first offset}.repair-{n}{extension}
//! ```
//!
//! The claims of a partition are a chain, n = 0, 1, 2 …, and each is created under the condition that nothing has its name.
//! Whoever creates claim n has read every one before it, so no record is in two of them; what a claim says never changes, so
//! whoever publishes it makes the same objects. A repair is therefore:
//!
//! ```text
//! read the chain → leave out what is claimed → create claim n → create its objects → done
//!                        ▲                        │ taken: by whom, and of what?
//!                        └────────────────────────┘
//! ```
//!
//! A process that dies behind its claim leaves objects that are not there. The next run finds the claim without its `done`,
//! makes the rows again from the letters, and publishes them if they are byte for byte what the claim says; else it stops.
//! Everything a query sees is under the route, and directories that begin with `_` are none of Hive's and Athena's.

mod log;
mod rows;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use aqueduct_core::{
    Class, Classify, Clock as _, Fingerprint, Offset, OffsetRange, RepairBatch, RepairRow, RepairSink,
    Repaired, StageError, SystemClock, TopicPartition, UnfinishedRepair,
};
use async_trait::async_trait;
use futures::StreamExt as _;

use self::log::{Chain, Claim, ClaimedObject};
use self::rows::{EncodedRows, Plan};
use crate::beside::RecordHeaders;
use crate::checksum::Crc;
use crate::claim::{ObjectConflict, ObjectIdentity};
use crate::format::{FileKind, Format};
use crate::registry::StoredPartition;
use crate::retry::retried;
use crate::sink::{LAYOUT_VERSION, ObjectOptions, OptionError};
use crate::target::{Creation, ObjectMeta, ObjectRead, ObjectTarget};

/// Objects under way at once.
const OBJECTS: usize = 8;
/// The longest list of offsets that an object carries for people, in bytes.
const SHOWN_BYTES: usize = 256;
/// The name of the user metadata that says which claim an object is of, and some of its offsets.
const REPAIR: &str = "aqueduct-repair";

/// Stores the records of letters in objects, each once, below the prefix and in the routes of an
/// [`ObjectSink`](crate::ObjectSink). Give it the format, the target and the options of that sink.
///
/// Two re-drives at a time, one that died anywhere and was run again, and one that is run twice, with the same letters or with
/// others among them: each record is in one object. The store must create conditionally; [`check`](RepairSink::check) says so if
/// it does not. Objects carry the [identity](crate::IDENTITY) that the sink's carry, and of which repair they are. Objects of keys
/// and headers are made beside them where the sink makes them.
///
/// Claims are never removed, and may not be: a record whose claim is gone would be stored again. They are small; one is made for
/// up to a thousand records.
pub struct ObjectRepairs<F, O> {
    format: F,
    target: Arc<O>,
    options: ObjectOptions,
    /// What was read of each partition's claims.
    chains: Mutex<HashMap<TopicPartition, Chain>>,
}

/// A claim of an earlier run cannot be finished by this one.
#[derive(Debug, thiserror::Error)]
#[error(
    "repair {claim} was begun by a run with another version of the correction and not ended: {difference}; nothing was stored"
)]
pub(crate) struct Diverged {
    claim: String,
    difference: String,
}

impl Classify for Diverged {
    fn class(&self) -> Class {
        Class::Fatal
    }

    fn hint(&self) -> Option<String> {
        Some("finish it with the version of the correction that began it; then run this one".to_owned())
    }
}

impl<F: FileKind, O: ObjectTarget + ObjectRead> ObjectRepairs<F, O> {
    /// Puts the parts together.
    ///
    /// # Errors
    /// Every [`OptionError`] there is, at once.
    pub fn new(format: F, target: O, options: ObjectOptions) -> Result<Self, Vec<OptionError>> {
        let problems = options.problems(&format, &target.limits());
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { format, target: Arc::new(target), options, chains: Mutex::default() })
    }

    /// The store.
    pub fn target(&self) -> &O {
        &self.target
    }

    fn chains(&self) -> MutexGuard<'_, HashMap<TopicPartition, Chain>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What everything of the chain is called in front of its number.
    fn chain_prefix(&self, lane: &TopicPartition) -> String {
        let (topic, partition) = (lane.topic(), lane.partition());
        format!("{}{topic}+{partition}+", self.options.keys.folder(topic, "_repairs"))
    }

    /// Creates the objects of a claim that are not there, and says that it is done. Answers how many it created.
    async fn publish(
        &self,
        lane: &TopicPartition,
        claim: &Claim,
        plans: Vec<Plan>,
    ) -> Result<u64, StageError> {
        let objects = claim.objects.iter().zip(plans);
        // After a failure no further one is begun, and those under way end: what a store makes of a request that is broken off
        // is its own affair.
        let failed = AtomicBool::new(false);
        let sends = objects.map(|(object, plan)| {
            let failed = &failed;
            async move {
                if failed.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                let sent = self.create(lane, claim, object, plan).await;
                failed.fetch_or(sent.is_err(), Ordering::Relaxed);
                sent
            }
        });
        let mut sends = futures::stream::iter(sends.collect::<Vec<_>>()).buffer_unordered(OBJECTS);
        let (mut created, mut failure) = (0, None);
        while let Some(sent) = sends.next().await {
            match sent {
                Ok(is_new) => created += u64::from(is_new),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        drop(sends);
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(registration) = &self.options.registration {
            let location = self.target.location();
            let partitions = claim.objects.iter().map(|object| StoredPartition {
                topic: lane.topic().to_owned(),
                route: object.route.clone(),
                location: format!("{location}/{}", self.options.keys.folder(lane.topic(), &object.route)),
            });
            registration.tell(partitions).await?;
        }
        self.done(lane, claim).await?;
        Ok(created)
    }

    async fn create(
        &self,
        lane: &TopicPartition,
        claim: &Claim,
        object: &ClaimedObject,
        plan: Plan,
    ) -> Result<bool, StageError> {
        let identity = claim.identity(lane, object)?;
        let codec = self.options.compression;
        let content_type = codec.content_type().unwrap_or(&plan.kind.content_type).to_owned();
        let body = plan.body(codec, self.options.compression_level)?;
        let crc32c = Crc::of(&body).get();
        let shown = format!("v=1 n={} offsets={}", claim.number, shown(&object.offsets));
        let meta = ObjectMeta { content_type, user: vec![identity.to_metadata(), (REPAIR, shown)] };
        match retried(|| self.target.put(&object.key, body.clone(), crc32c, &meta)).await? {
            Creation::Created => Ok(true),
            Creation::AlreadyExists if self.is_there(&object.key, &identity).await? => Ok(false),
            Creation::AlreadyExists => {
                let what = format!("{} was there a moment ago and is not any more", object.key);
                Err(StageError::retry("repair object", what))
            }
        }
    }

    /// Whether this very object stands there; an error if another does.
    async fn is_there(&self, key: &str, ours: &ObjectIdentity) -> Result<bool, StageError> {
        let Some(head) = retried(|| self.target.head(key)).await? else { return Ok(false) };
        let theirs = ObjectIdentity::from_metadata(&head.user);
        if theirs.as_ref() == Some(ours) {
            return Ok(true);
        }
        let (location, key) = (self.target.location(), key.to_owned());
        Err(StageError::new("repair object", ObjectConflict { location, key, ours: ours.clone(), theirs }))
    }

    /// Whether everything of the claim is visible.
    async fn is_published(&self, lane: &TopicPartition, claim: &Claim) -> Result<bool, StageError> {
        for object in &claim.objects {
            if !self.is_there(&object.key, &claim.identity(lane, object)?).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn done(&self, lane: &TopicPartition, claim: &Claim) -> Result<(), StageError> {
        let key = log::done_key(&self.chain_prefix(lane), claim.number);
        let meta = ObjectMeta { content_type: "text/plain".to_owned(), user: Vec::new() };
        let (body, crc32c) = (bytes::Bytes::new(), Crc::of(b"").get());
        retried(|| self.target.put(&key, body.clone(), crc32c, &meta)).await.map(drop)
    }

    /// The extension of repair `number`'s objects.
    fn extension(&self, format: &str, number: u64) -> String {
        format!(".repair-{number}{format}{}", self.options.compression.extension())
    }

    /// The claim of these rows under this number, and what becomes its objects.
    fn claim(
        &self,
        lane: &TopicPartition,
        (number, layout, opened_at_ms): (u64, u64, i64),
        plans: &[Plan],
    ) -> Claim {
        let mut objects = Vec::with_capacity(plans.len());
        for plan in plans {
            let extension = self.extension(&plan.kind.extension, number);
            let (Some(first), Some(last)) = (plan.offsets.first(), plan.offsets.last()) else { continue };
            let range = OffsetRange::new(Offset::new(*first), Offset::new(*last).next());
            let Some(range) = range else { continue };
            objects.push(ClaimedObject {
                key: self.options.keys.render(lane, &plan.route, range, &extension),
                route: plan.route.clone(),
                offsets: plan.offsets.clone(),
                rows: plan.offsets.len() as u64,
                row_bytes: plan.rows.len() as u64,
                rows_crc32c: format!("{:08x}", Crc::of(&plan.rows).get()),
            });
        }
        Claim::new(lane, number, run_name(), opened_at_ms, layout, objects)
    }

    fn encode<'a, T: 'static>(
        &self,
        lane: &TopicPartition,
        rows: Vec<RepairRow<'a, T>>,
    ) -> Result<(EncodedRows, Vec<RepairRow<'a, T>>), StageError>
    where
        F: Format<T>,
    {
        // As many digits as a number can have.
        let suffix = |extension: &str| self.extension(extension, u64::MAX);
        rows::encode(&self.format, &self.options, suffix, lane, rows)
    }
}

#[async_trait]
impl<T, F, O> RepairSink<T> for ObjectRepairs<F, O>
where
    T: Send + 'static,
    F: Format<T>,
    O: ObjectTarget + ObjectRead,
{
    async fn check(&self) -> Result<(), StageError> {
        if !self.target.limits().conditional_create {
            let what = "the store cannot create an object only if its key is free, so nobody can tell who stores a record";
            return Err(StageError::fatal("repair check", what));
        }
        self.target.check().await
    }

    async fn unfinished(&self, lane: &TopicPartition) -> Result<Vec<UnfinishedRepair>, StageError> {
        let prefix = self.chain_prefix(lane);
        let (chain, open) = log::read(&*self.target, &prefix).await?;
        self.chains().insert(lane.clone(), chain);
        let mut unfinished = Vec::new();
        for claim in open {
            if self.is_published(lane, &claim).await? {
                self.done(lane, &claim).await?;
                continue;
            }
            let mut offsets: Vec<_> = claim.offsets().map(Offset::new).collect();
            offsets.sort_unstable();
            offsets.dedup();
            unfinished.push(UnfinishedRepair {
                name: log::claim_key(&prefix, claim.number),
                number: claim.number,
                offsets,
                opened_at_ms: claim.opened_at_ms,
            });
        }
        Ok(unfinished)
    }

    async fn finish(&self, begun: &UnfinishedRepair, batch: RepairBatch<'_, T>) -> Result<u64, StageError> {
        let lane = batch.lane.clone();
        let key = log::claim_key(&self.chain_prefix(&lane), begun.number);
        let (EncodedRows { kinds, rows, .. }, _) = self.encode(&lane, batch.rows)?;
        let claim = log::get(&*self.target, &key).await?;
        let plans = rows::plan(&kinds, &rows);
        let layout = claim.layout()?;
        let again = self.claim(&lane, (claim.number, layout, claim.opened_at_ms), &plans);
        if let Some(difference) = claim.difference(&again) {
            // Whoever began it may have ended it since.
            if !self.is_published(&lane, &claim).await? {
                return Err(StageError::new("finish repair", Diverged { claim: key, difference }));
            }
            self.done(&lane, &claim).await?;
        } else {
            self.publish(&lane, &claim, plans).await?;
        }
        Ok(begun.offsets.len() as u64)
    }

    async fn repair(&self, batch: RepairBatch<'_, T>) -> Result<Repaired, StageError> {
        let (lane, layout, opened_at_ms) = (batch.lane.clone(), batch.layout, batch.opened_at_ms);
        let prefix = self.chain_prefix(&lane);
        // Taken out: after an error, or if this is dropped, the next one reads the chain anew.
        let known = self.chains().remove(&lane);
        let mut chain = match known {
            Some(chain) => chain,
            None => log::read(&*self.target, &prefix).await?.0,
        };
        let (mut rows, mut before, mut refused) = (batch.rows, 0, Vec::new());
        let repaired = loop {
            let given = rows.len();
            rows.retain(|row| !chain.holds(row.record.offset()));
            before += (given - rows.len()) as u64;
            // Anew for each claim, of its rows alone: whoever finishes it sees no others.
            let (free, kept) = self.encode(&lane, rows)?;
            rows = kept;
            refused.extend(free.refused);
            if free.rows.is_empty() {
                break Repaired { before, refused, ..Repaired::default() };
            }
            let plans = rows::plan(&free.kinds, &free.rows);
            let claim = self.claim(&lane, (chain.next(), layout, opened_at_ms), &plans);
            let taken = log::create(&*self.target, &prefix, &claim).await?;
            chain.add(taken.as_ref().unwrap_or(&claim));
            if taken.is_some() {
                continue;
            }
            let stored = free.rows.len() as u64;
            let objects = self.publish(&lane, &claim, plans).await?;
            break Repaired { stored, before, refused, objects };
        };
        self.chains().insert(lane, chain);
        Ok(repaired)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("files", LAYOUT_VERSION);
        self.format.fingerprint(parts);
        parts.put("compression", self.options.compression.name());
        self.options.keys.fingerprint(parts);
        if let Some(keys) = &self.options.record_keys {
            keys.fingerprint(parts);
        }
        if self.options.record_headers {
            RecordHeaders::fingerprint(parts);
        }
        parts.put("repairs", "1");
    }
}

impl<F, O> fmt::Debug for ObjectRepairs<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectRepairs").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Tells whose claim it is when the answer to its creation was lost. If two ever had the same name they would publish the same
/// objects.
fn run_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemClock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{now:x}-{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Some of the offsets, for people; the claim has all.
fn shown(offsets: &[i64]) -> String {
    let mut text = String::new();
    for (index, offset) in offsets.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let one = format!("{comma}{offset}");
        if text.len() + one.len() > SHOWN_BYTES {
            return format!("{text} and {} more", offsets.len() - index);
        }
        text.push_str(&one);
    }
    text
}

#[cfg(test)]
mod tests;
