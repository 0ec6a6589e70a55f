//! A small two-phase sink that is right, and can be made wrong in one way at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aqueduct_core::testkit::{SinkHarness, StoredRow};
use aqueduct_core::{
    Begun, Class, Classify, Envelope, Fingerprint, OffsetRange, Poison, PoisonReason, Published,
    PublishedObject, Record, Rejected, SegmentStart, SegmentWriter, Sink, SinkCapabilities, StageError,
    Staged,
};
use async_trait::async_trait;
use bytes::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    UnstableFingerprint,
    NoFingerprint,
    LosesTheLastRow,
    AnswersBeforeItIsThere,
    ReversesRows,
    ForgetsRoutesPastTheHundredth,
    KeepsHalfAPoison,
    KeepsTheRouteOfAPoison,
    HoldsTheBatch,
    MixesLanes,
    CountsOneRowLess,
    CountsNoBytes,
    PublishesAgain,
    PublishesAtSpill,
    PublishesAtStage,
    PublishesAtAbandon,
    DeletesAtAbandon,
    StagesTwice,
    NamesByInstance,
    TakesThePinnedSegmentForPublished,
    NamesByBatch,
    Overwrites,
    WritesInTwoSteps,
    RefusesLateWithoutSayingSo,
    ForgetsALateRefusal,
}

/// When a row that cannot be stored is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuses {
    Append,
    Stage,
    Publish,
}

type Objects = Arc<Mutex<BTreeMap<String, Vec<Bytes>>>>;

/// The harness.
pub(crate) struct Shelf {
    objects: Objects,
    flaw: Option<Flaw>,
    refuses: Refuses,
    instances: AtomicU64,
    /// What `MixesLanes` shares between the writers of an instance.
    mixed: Arc<Mutex<Vec<(u64, usize, OffsetAndRow)>>>,
}

impl Shelf {
    pub(crate) fn new(flaw: Option<Flaw>) -> Self {
        let late = matches!(flaw, Some(Flaw::RefusesLateWithoutSayingSo | Flaw::ForgetsALateRefusal));
        Self {
            objects: Objects::default(),
            flaw,
            refuses: if late { Refuses::Stage } else { Refuses::Append },
            instances: AtomicU64::new(0),
            mixed: Arc::default(),
        }
    }

    /// A sink that is right, and refuses rows late.
    pub(crate) fn refusing(refuses: Refuses) -> Self {
        Self { refuses, ..Self::new(None) }
    }
}

impl SinkHarness for Shelf {
    type Value = Bytes;
    type Sink = ShelfSink;

    async fn sink(&self) -> ShelfSink {
        ShelfSink {
            objects: Arc::clone(&self.objects),
            flaw: self.flaw,
            refuses: self.refuses,
            instance: self.instances.fetch_add(1, Ordering::Relaxed),
            mixed: Arc::clone(&self.mixed),
        }
    }

    fn value(&self, record: &Record<'_>) -> Bytes {
        record.value_bytes().unwrap()
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Bytes> {
        Some(Bytes::from_static(b"poison"))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let objects = self.objects.lock().unwrap();
        let rows = objects.iter().flat_map(|(key, rows)| rows.iter().map(move |row| (key.clone(), row)));
        rows.map(|(object, row)| StoredRow::read(object, row)).collect()
    }
}

pub(crate) struct ShelfSink {
    objects: Objects,
    flaw: Option<Flaw>,
    refuses: Refuses,
    instance: u64,
    mixed: Arc<Mutex<Vec<(u64, usize, OffsetAndRow)>>>,
}

type OffsetAndRow = (i64, Bytes);

static WRITERS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, thiserror::Error)]
#[error("{0} is taken by other rows")]
struct Taken(String);

impl Classify for Taken {
    fn class(&self) -> Class {
        Class::Fatal
    }
}

#[async_trait]
impl Sink<Bytes> for ShelfSink {
    async fn begin(&self, at: SegmentStart) -> Result<Begun<Bytes>, StageError> {
        if at.pinned.is_some() && self.flaw == Some(Flaw::TakesThePinnedSegmentForPublished) {
            return Ok(Begun::AlreadyPublished(Published::default()));
        }
        Ok(Begun::Fill(Box::new(ShelfWriter {
            objects: Arc::clone(&self.objects),
            flaw: self.flaw,
            refuses: self.refuses,
            refused: Vec::new(),
            instance: self.instance,
            number: WRITERS.fetch_add(1, Ordering::Relaxed),
            mixed: Arc::clone(&self.mixed),
            at,
            routes: Vec::new(),
            rows: Vec::new(),
            held: Vec::new(),
            copied: 0,
            bytes: 0,
            batches: 0,
            staged: None,
            publications: 0,
        })))
    }

    fn capabilities(&self) -> SinkCapabilities {
        let mut capabilities = SinkCapabilities::redo();
        capabilities.rejects_late =
            self.refuses != Refuses::Append && self.flaw != Some(Flaw::RefusesLateWithoutSayingSo);
        capabilities
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        match self.flaw {
            Some(Flaw::NoFingerprint) => {}
            Some(Flaw::UnstableFingerprint) => parts.put("sink", self.instance),
            _ => parts.put("sink", "shelf/1"),
        }
    }
}

struct ShelfWriter {
    objects: Objects,
    flaw: Option<Flaw>,
    refuses: Refuses,
    /// Offsets of rows that will be refused late.
    refused: Vec<i64>,
    instance: u64,
    number: u64,
    mixed: Arc<Mutex<Vec<(u64, usize, OffsetAndRow)>>>,
    at: SegmentStart,
    routes: Vec<String>,
    /// Route and row, in order of arrival; those from `copied` on are slices of the batch.
    rows: Vec<(usize, OffsetAndRow)>,
    held: Vec<Bytes>,
    copied: usize,
    bytes: u64,
    batches: u64,
    staged: Option<Vec<(String, Vec<OffsetAndRow>)>>,
    publications: u64,
}

impl ShelfWriter {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn group(&self) -> Vec<(String, Vec<OffsetAndRow>)> {
        let mut routes: BTreeMap<usize, Vec<OffsetAndRow>> = BTreeMap::new();
        for (route, row) in &self.rows {
            routes.entry(*route).or_default().push(row.clone());
        }
        if self.is(Flaw::LosesTheLastRow)
            && let Some(mut last) = routes.last_entry()
        {
            last.get_mut().pop();
        }
        routes.retain(|_, rows| !rows.is_empty());
        if self.is(Flaw::ForgetsRoutesPastTheHundredth) {
            routes.retain(|route, _| *route < 100);
        }
        let mut objects: Vec<_> =
            routes.into_iter().map(|(route, rows)| (self.key(route, rows[0].0), rows)).collect();
        objects.sort_by_key(|(_, rows)| rows[0].0);
        if self.is(Flaw::ReversesRows) {
            for (_, rows) in &mut objects {
                rows.reverse();
            }
        }
        objects
    }

    fn key(&self, route: usize, first: i64) -> String {
        let (lane, route) = (&self.at.lane, &self.routes[route]);
        let unique = match self.flaw {
            Some(Flaw::NamesByInstance) => self.instance,
            Some(Flaw::NamesByBatch) => self.batches,
            Some(Flaw::PublishesAgain) => self.publications,
            _ => 0,
        };
        format!("{lane}/{route}/{first:010}-{unique}")
    }

    fn write(&self, key: &str, rows: &[OffsetAndRow]) -> Result<PublishedObject, StageError> {
        let rows_only: Vec<_> = rows.iter().map(|(_, row)| row.clone()).collect();
        let mut objects = self.objects.lock().unwrap();
        match objects.get(key) {
            Some(there) if *there != rows_only && !self.is(Flaw::Overwrites) => {
                return Err(StageError::new("publish", Taken(key.to_owned())));
            }
            _ => objects.insert(key.to_owned(), rows_only),
        };
        let offsets = || rows.iter().map(|(offset, _)| aqueduct_core::Offset::new(*offset));
        let missing = u64::from(self.is(Flaw::CountsOneRowLess));
        Ok(PublishedObject {
            key: key.to_owned(),
            range: OffsetRange::new(offsets().min().unwrap(), offsets().max().unwrap().next()).unwrap(),
            rows: rows.len() as u64 - missing,
            bytes: rows.iter().map(|(_, row)| row.len() as u64).sum(),
        })
    }

    fn rejected(&self, now: Refuses) -> Vec<Rejected> {
        let refused = self.refused.iter().filter(|_| self.refuses == now);
        let rejected = refused.map(|offset| Rejected {
            offset: aqueduct_core::Offset::new(*offset),
            poison: Poison::new(PoisonReason::Rejected, "poison"),
        });
        rejected.collect()
    }

    fn write_all(&self, objects: &[(String, Vec<OffsetAndRow>)]) -> Result<Vec<PublishedObject>, StageError> {
        objects.iter().map(|(key, rows)| self.write(key, rows)).collect()
    }
}

#[async_trait]
impl SegmentWriter<Bytes> for ShelfWriter {
    fn append(&mut self, envelope: Envelope<'_, Bytes>) -> Result<(), Poison> {
        let route = envelope.route.index();
        let poison = &envelope.value[..] == b"poison";
        let late = self.refuses != Refuses::Append;
        if route == self.routes.len() && (!poison || late || self.is(Flaw::KeepsTheRouteOfAPoison)) {
            self.routes.push(envelope.path.as_str().to_owned());
        }
        let row = (envelope.record.offset().get(), envelope.value.clone());
        if poison && late {
            if !self.is(Flaw::ForgetsALateRefusal) {
                self.refused.push(row.0);
            }
            return Ok(());
        }
        if poison {
            if self.is(Flaw::KeepsHalfAPoison) && !self.rows.is_empty() {
                self.rows.push((0, (row.0, Bytes::from_static(b"pois"))));
            }
            return Err(Poison::new(PoisonReason::Refused, "poison"));
        }
        if !self.is(Flaw::CountsNoBytes) {
            self.bytes += row.1.len() as u64;
        }
        if self.is(Flaw::HoldsTheBatch) {
            self.held.push(row.1.clone());
        }
        self.rows.push((route, row));
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        tokio::task::yield_now().await;
        self.batches += 1;
        for (_, (_, row)) in &mut self.rows[self.copied..] {
            *row = Bytes::copy_from_slice(row);
        }
        self.copied = self.rows.len();
        if self.is(Flaw::PublishesAtSpill) {
            self.write_all(&self.group())?;
        }
        if self.is(Flaw::MixesLanes) {
            let mine = self.rows.drain(..).map(|(route, row)| (self.instance, route, row));
            self.mixed.lock().unwrap().extend(mine);
            self.copied = 0;
        }
        Ok(Vec::new())
    }

    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        tokio::task::yield_now().await;
        if self.is(Flaw::MixesLanes) {
            let mut mixed = self.mixed.lock().unwrap();
            let mine = |(instance, ..): &mut (u64, usize, OffsetAndRow)| *instance == self.instance;
            self.rows = mixed.extract_if(.., mine).map(|(_, route, row)| (route, row)).collect();
            self.rows.retain(|(route, _)| *route < self.routes.len());
        }
        let before = self.staged.take();
        let mut objects = self.group();
        if self.is(Flaw::StagesTwice)
            && let Some(before) = before
        {
            objects.extend(before.into_iter().map(|(key, rows)| (key + "-again", rows)));
        }
        if self.is(Flaw::PublishesAtStage) {
            self.write_all(&objects)?;
        }
        self.staged = Some(objects);
        let rejected = self.rejected(Refuses::Stage);
        Ok(Staged { rejected, ..Staged::default() })
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if self.is(Flaw::PublishesAgain) {
            self.publications += 1;
            self.staged = Some(self.group());
        }
        let staged = self.staged.clone().unwrap();
        if self.is(Flaw::AnswersBeforeItIsThere) {
            return Ok(Published::default());
        }
        let mut published = Published { rejected: self.rejected(Refuses::Publish), ..Published::default() };
        for (key, rows) in &staged {
            if self.is(Flaw::WritesInTwoSteps) {
                // A name of its own until it is complete: never cleaned up when the process dies in between.
                let part = format!("{key}.part-{}", self.number);
                self.write(&part, rows)?;
                tokio::task::yield_now().await;
                self.objects.lock().unwrap().remove(&part);
            }
            published.objects.push(self.write(key, rows)?);
            tokio::task::yield_now().await;
        }
        Ok(published)
    }

    async fn abandon(&mut self) {
        if self.is(Flaw::PublishesAtAbandon) {
            drop(self.write_all(&self.group()));
        }
        if self.is(Flaw::DeletesAtAbandon) {
            for (key, _) in self.group() {
                self.objects.lock().unwrap().remove(&key);
            }
        }
        self.mixed.lock().unwrap().retain(|(instance, ..)| *instance != self.instance);
        self.rows.clear();
        self.copied = 0;
    }

    fn encoded_bytes(&self) -> u64 {
        self.bytes
    }
}
