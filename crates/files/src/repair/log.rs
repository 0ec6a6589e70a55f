//! The claims of a partition.

use std::collections::HashSet;

use aqueduct_core::{Offset, OffsetRange, StageError, TopicPartition};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checksum::Crc;
use crate::claim::ObjectIdentity;
use crate::retry::retried;
use crate::target::{Creation, ObjectMeta, ObjectRead, ObjectTarget};

const VERSION: u32 = 1;
/// A thousand records in as many objects, with the longest keys.
const CLAIM_BYTES_MAX: u64 = 16 << 20;
const STAGE: &str = "repair log";

/// One claim, as it stands in its object. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    version: u32,
    topic: String,
    partition: i32,
    pub(super) number: u64,
    run: String,
    pub(super) opened_at_ms: i64,
    /// Hex.
    layout: String,
    pub(super) objects: Vec<ClaimedObject>,
}

/// An object that the claim's owner creates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimedObject {
    pub(super) key: String,
    pub(super) route: String,
    /// Of its rows, ascending.
    pub(super) offsets: Vec<i64>,
    pub(super) rows: u64,
    /// With terminators, before compression.
    pub(super) row_bytes: u64,
    /// Hex.
    pub(super) rows_crc32c: String,
}

impl Claim {
    pub(super) fn new(
        lane: &TopicPartition,
        number: u64,
        run: String,
        opened_at_ms: i64,
        layout: u64,
        objects: Vec<ClaimedObject>,
    ) -> Self {
        let (topic, partition) = (lane.topic().to_owned(), lane.partition());
        let layout = format!("{layout:016x}");
        Self { version: VERSION, topic, partition, number, run, opened_at_ms, layout, objects }
    }

    /// Every record it holds.
    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> {
        self.objects.iter().flat_map(|object| &object.offsets).copied()
    }

    pub(super) fn layout(&self) -> Result<u64, StageError> {
        u64::from_str_radix(&self.layout, 16).map_err(|_| self.damaged("its layout is no number"))
    }

    /// What the metadata of one of its objects says.
    pub(super) fn identity(
        &self,
        lane: &TopicPartition,
        object: &ClaimedObject,
    ) -> Result<ObjectIdentity, StageError> {
        let (Some(first), Some(last)) = (object.offsets.first(), object.offsets.last()) else {
            return Err(self.damaged("it has an object without rows"));
        };
        let range = OffsetRange::new(Offset::new(*first), Offset::new(*last).next());
        let rows_crc32c = u32::from_str_radix(&object.rows_crc32c, 16);
        Ok(ObjectIdentity {
            lane: lane.clone(),
            range: range.ok_or_else(|| self.damaged("its offsets do not ascend"))?,
            rows: object.rows,
            row_bytes: object.row_bytes,
            rows_crc32c: rows_crc32c.map_err(|_| self.damaged("its checksum is no number"))?,
            layout: self.layout()?,
        })
    }

    /// In what the objects of the same records differ now; `None` if they do not.
    pub(super) fn difference(&self, again: &Self) -> Option<String> {
        let (began, now) = (self.objects.len(), again.objects.len());
        if began != now {
            return Some(format!("it has {began} objects, and its letters give {now} now"));
        }
        let mut pairs = self.objects.iter().zip(&again.objects);
        let (theirs, ours) = pairs.find(|(theirs, ours)| theirs != ours)?;
        Some(format!(
            "{} with {} rows, {} bytes, crc32c {} would be {} with {} rows, {} bytes, crc32c {} now",
            theirs.key,
            theirs.rows,
            theirs.row_bytes,
            theirs.rows_crc32c,
            ours.key,
            ours.rows,
            ours.row_bytes,
            ours.rows_crc32c
        ))
    }

    fn damaged(&self, what: &str) -> StageError {
        StageError::fatal(
            STAGE,
            format!("claim {} of {}[{}] is damaged: {what}", self.number, self.topic, self.partition),
        )
    }
}

/// What all claims of a partition hold together.
#[derive(Debug, Default)]
pub(super) struct Chain {
    next: u64,
    taken: HashSet<i64>,
}

impl Chain {
    /// The number of the next claim.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn holds(&self, offset: Offset) -> bool {
        self.taken.contains(&offset.get())
    }

    /// One more claim, at its end.
    pub(super) fn add(&mut self, claim: &Claim) {
        self.taken.extend(claim.offsets());
        self.next = claim.number + 1;
    }
}

pub(super) fn claim_key(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:010}.json")
}

pub(super) fn done_key(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:010}.done")
}

/// Reads the chain to its end; with the claims that nobody says are done.
pub(super) async fn read<O>(target: &O, prefix: &str) -> Result<(Chain, Vec<Claim>), StageError>
where
    O: ObjectTarget + ObjectRead,
{
    let (mut numbers, mut done) = (Vec::new(), HashSet::new());
    let mut after: Option<String> = None;
    loop {
        let page = retried(|| target.list(prefix, after.as_deref())).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for key in &page {
            let name = key.get(prefix.len()..).unwrap_or_default();
            let number = |suffix| name.strip_suffix(suffix).and_then(|digits| digits.parse::<u64>().ok());
            numbers.extend(number(".json"));
            done.extend(number(".done"));
        }
    }
    let (mut chain, mut open) = (Chain::default(), Vec::new());
    numbers.sort_unstable();
    for number in numbers {
        if number != chain.next {
            let key = claim_key(prefix, chain.next);
            let what = format!(
                "{}/{key} is missing although there are later claims: which records it held is not known, and any \
                 of them might be stored a second time. Restore it",
                target.location()
            );
            return Err(StageError::fatal(STAGE, what));
        }
        let claim = get(target, &claim_key(prefix, number)).await?;
        chain.add(&claim);
        if !done.contains(&number) {
            open.push(claim);
        }
    }
    Ok((chain, open))
}

/// Reads a claim that is there.
pub(super) async fn get<O: ObjectTarget + ObjectRead>(target: &O, key: &str) -> Result<Claim, StageError> {
    let at = || format!("{}/{key}", target.location());
    let Some(text) = retried(|| target.get(key, CLAIM_BYTES_MAX)).await? else {
        return Err(StageError::retry(STAGE, format!("{} was there a moment ago and is not any more", at())));
    };
    let claim: Claim = serde_json::from_slice(&text)
        .map_err(|error| StageError::fatal(STAGE, format!("{} is no claim: {error}", at())))?;
    if claim.version != VERSION {
        let what = format!("{} has version {}, this reads version {VERSION}", at(), claim.version);
        return Err(StageError::fatal(STAGE, what));
    }
    // Its number decides what is read next and which objects are made: it must be the one of its name.
    if !key.ends_with(&format!("+{:010}.json", claim.number)) {
        return Err(claim.damaged("its name has another number"));
    }
    Ok(claim)
}

/// Creates a claim; answers whose it is if somebody else was first.
pub(super) async fn create<O>(target: &O, prefix: &str, claim: &Claim) -> Result<Option<Claim>, StageError>
where
    O: ObjectTarget + ObjectRead,
{
    let key = claim_key(prefix, claim.number);
    let body = serde_json::to_vec(claim).map(Bytes::from);
    let body = body.map_err(|error| StageError::fatal(STAGE, error))?;
    let crc32c = Crc::of(&body).get();
    let meta = ObjectMeta { content_type: "application/json".to_owned(), user: Vec::new() };
    match retried(|| target.put(&key, body.clone(), crc32c, &meta)).await? {
        Creation::Created => Ok(None),
        // Ours, if the answer was lost.
        Creation::AlreadyExists => Ok(Some(get(target, &key).await?).filter(|theirs| theirs != claim)),
    }
}
