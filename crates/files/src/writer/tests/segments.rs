//! Segments side by side in one spool, in any sequence of steps, against lists of the rows that were appended.
//!
//! Disks fill up in the middle of a write and have room again, the target refuses and loses answers, bits flip in files that
//! wait, segments are given up. After each step the scratch files are those of segments that hold rows, and the store holds
//! whole objects of what was staged, and nothing else. A failure is shrunk to the shortest sequence
//! (`proptest-state-machine`); `PROPTEST_CASES` tries more.
//!
//! Seen to catch, each put in by hand: rows that are not verified when they are read back, whole or in parts; a block that is
//! forgotten when its write fails or its file cannot be made; the end of an index that is lost when its write fails; runs at
//! a wrong place; files that stay after a publication, or when a segment is given up.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aqueduct_core::{Disk, DiskFile};
use proptest::sample::select;
use proptest::strategy::Union;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::built::arrays;
use super::*;
use crate::JsonArray;

const SEGMENTS_MAX: usize = 4;

/// One step. A segment is named by its place among those there are.
#[derive(Clone, Debug)]
enum Do {
    Begin,
    Append {
        at: usize,
        rows: Vec<Spec>,
    },
    Spill {
        at: usize,
    },
    Stage {
        at: usize,
    },
    Publish {
        at: usize,
    },
    Abandon {
        at: usize,
    },
    /// One bit of a file that waits for its publication. The place is in thousandths of its length.
    Flip {
        at: usize,
        in_rows: bool,
        place: u64,
        bit: u8,
    },
    Full(bool),
    /// The next call of the target fails so.
    Fail(Fault),
}

#[derive(Clone, Debug, Default)]
struct Segment {
    partition: i32,
    rows: Vec<Spec>,
    /// Rows that are not on scratch yet.
    pending: usize,
    /// A spill or a stage has failed and is to be done again.
    stuck: bool,
    staged: bool,
    /// A bit was flipped, and whether in the rows.
    flipped: Option<bool>,
    /// It has its two files.
    files: bool,
}

#[derive(Clone, Debug)]
struct Lists {
    /// Files are arrays, built when they are published.
    built: bool,
    codec: Compression,
    segments: Vec<Segment>,
    begun: i32,
    full: bool,
    answer: bool,
    /// The segment that was just published, or could not be, and is gone.
    published: Option<Segment>,
}

impl Segment {
    fn objects(&self, built: bool, codec: Compression) -> BTreeMap<String, Vec<u8>> {
        if built {
            return arrays(self.partition, &self.rows, 40 << 10, codec);
        }
        model(self.partition, 0, &self.rows, 40 << 10, codec.extension())
    }
}

impl ReferenceStateMachine for Lists {
    type State = Self;
    type Transition = Do;

    fn init_state() -> BoxedStrategy<Self> {
        let lists = |(built, codec)| Self {
            built,
            codec,
            segments: Vec::new(),
            begun: 0,
            full: false,
            answer: true,
            published: None,
        };
        (any::<bool>(), select(vec![Compression::None, Compression::Zstd])).prop_map(lists).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Do> {
        let rows = proptest::collection::vec((0..4_u8, 1..900_usize), 1..30);
        let mut steps = vec![
            (if state.full { 6 } else { 2 }, Just(Do::Full(!state.full)).boxed()),
            (1, select(vec![Fault::Reject, Fault::LoseAnswer]).prop_map(Do::Fail).boxed()),
        ];
        if state.segments.len() < SEGMENTS_MAX {
            steps.push((4, Just(Do::Begin).boxed()));
        }
        let which = |fits: fn(&Segment) -> bool| {
            let fitting =
                (0..state.segments.len()).filter(|at| fits(&state.segments[*at])).collect::<Vec<_>>();
            (!fitting.is_empty()).then(|| select(fitting))
        };
        let mut step = |weight, at: Option<proptest::sample::Select<usize>>, step: fn(usize) -> Do| {
            steps.extend(at.map(|at| (weight, at.prop_map(step).boxed())));
        };
        step(10, which(|it| !it.staged), |at| Do::Spill { at });
        step(5, which(|it| !it.staged && !it.rows.is_empty()), |at| Do::Stage { at });
        step(5, which(|it| it.staged), |at| Do::Publish { at });
        step(1, which(|_| true), |at| Do::Abandon { at });
        if let Some(at) = which(|it| !it.staged && !it.stuck) {
            steps.push((10, (at, rows).prop_map(|(at, rows)| Do::Append { at, rows }).boxed()));
        }
        if let Some(at) = which(|it| it.staged && it.flipped.is_none()) {
            let flip = (at, any::<bool>(), 0..1000_u64, 0..8_u8);
            let flip = flip.prop_map(|(at, in_rows, place, bit)| Do::Flip { at, in_rows, place, bit });
            steps.push((4, flip.boxed()));
        }
        Union::new_weighted(steps).boxed()
    }

    fn preconditions(state: &Self, step: &Do) -> bool {
        let fits = |at: &usize, fits: fn(&Segment) -> bool| state.segments.get(*at).is_some_and(fits);
        match step {
            Do::Begin => state.segments.len() < SEGMENTS_MAX,
            Do::Append { at, .. } => fits(at, |it| !it.staged && !it.stuck),
            Do::Spill { at } => fits(at, |it| !it.staged),
            Do::Stage { at } => fits(at, |it| !it.staged && !it.rows.is_empty()),
            Do::Publish { at } => fits(at, |it| it.staged),
            Do::Abandon { at } => fits(at, |_| true),
            Do::Flip { at, .. } => fits(at, |it| it.staged && it.flipped.is_none()),
            Do::Full(_) | Do::Fail(_) => true,
        }
    }

    fn apply(mut state: Self, step: &Do) -> Self {
        (state.answer, state.published) = (true, None);
        let full = state.full;
        match step {
            Do::Begin => {
                state.begun += 1;
                state.segments.push(Segment { partition: state.begun, ..Segment::default() });
            }
            Do::Append { at, rows } => {
                let segment = &mut state.segments[*at];
                segment.rows.extend(rows);
                segment.pending += rows.len();
            }
            Do::Spill { at } | Do::Stage { at } => {
                let segment = &mut state.segments[*at];
                let to_its_end = matches!(step, Do::Stage { .. });
                state.answer = !full || (!to_its_end && segment.pending == 0);
                segment.stuck = !state.answer;
                if state.answer {
                    segment.files |= !segment.rows.is_empty();
                    (segment.pending, segment.staged) = (0, to_its_end);
                }
            }
            Do::Publish { at } => state.published = Some(state.segments.remove(*at)),
            Do::Abandon { at } => drop(state.segments.remove(*at)),
            Do::Flip { at, in_rows, .. } => state.segments[*at].flipped = Some(*in_rows),
            Do::Full(full) => state.full = *full,
            Do::Fail(_) => {}
        }
        state
    }
}

/// The machine's file system, which is full when a test says so: the first half of a write is done then.
#[derive(Clone, Debug, Default)]
struct Filling(Arc<AtomicBool>);

#[derive(Debug)]
struct FillingFile(Arc<dyn DiskFile>, Filling);

impl Filling {
    fn refused(&self) -> io::Result<()> {
        if self.0.load(SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for Filling {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.refused()?;
        Ok(Arc::new(FillingFile(LocalDisk.create(path)?, self.clone())))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        LocalDisk.list(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.available(path)
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        LocalDisk.lock(path, content)
    }
}

impl DiskFile for FillingFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(full) = self.1.refused() {
            self.0.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(full);
        }
        self.0.write_all_at(bytes, offset)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
}

struct Real {
    built: bool,
    codec: Compression,
    runtime: tokio::runtime::Runtime,
    rig: Rig,
    disk: Filling,
    target: Arc<MemoryTarget>,
    sink: ObjectSink<Box<dyn Format<Value>>, Arc<MemoryTarget>>,
    segments: Vec<RealSegment>,
    /// What is to be in the store.
    stored: BTreeMap<String, Vec<u8>>,
    /// What may be there beside it, of segments that could not be read back.
    torn: BTreeMap<String, Vec<u8>>,
    answers_lost: bool,
}

struct RealSegment {
    writer: Box<dyn SegmentWriter<Value>>,
    routes: RouteTable,
    files: Vec<PathBuf>,
}

impl Real {
    fn append(&mut self, at: usize, of: &Segment, rows: &[Spec]) {
        let RealSegment { writer, routes, .. } = &mut self.segments[at];
        let batch = one_batch(of.partition, count(of.rows.len() - rows.len()), rows);
        for (record, (route, _)) in batch.iter().zip(rows) {
            let mut path = RoutePath::default();
            path.push_field("r", &route.to_string()).unwrap();
            let bytes = record.value_bytes().unwrap();
            let value = if route % 2 == 0 { Value::Shared(bytes) } else { Value::Encoded(bytes) };
            let route = routes.intern(&path);
            writer.append(Envelope { record: &record, route, path: &path, value }).unwrap();
        }
    }

    /// Publishes as a lane does: again, for as long as that may help.
    fn publish(&mut self, at: usize, of: &Segment) {
        let mut segment = self.segments.remove(at);
        let published = loop {
            match self.runtime.block_on(segment.writer.publish()) {
                Err(error) if matches!(error.class(), Class::Retry { .. }) => {}
                published => break published,
            }
        };
        match published {
            Ok(published) => {
                assert_ne!(of.flipped, Some(true), "a row is not what was written, and is published");
                let names = published.objects.into_iter().map(|object| object.key).collect::<BTreeSet<_>>();
                assert!(names.iter().eq(of.objects(self.built, self.codec).keys()), "{names:?}");
                self.stored.extend(of.objects(self.built, self.codec));
            }
            Err(error) => {
                assert!(of.flipped.is_some() && error.class() == Class::Fatal, "{}", ErrorChain(&error));
                self.runtime.block_on(segment.writer.abandon());
                self.torn.extend(of.objects(self.built, self.codec));
            }
        }
    }

    /// Files that came with the last step are this segment's.
    fn adopt(&mut self, at: usize) {
        let known: BTreeSet<_> = self.segments.iter().flat_map(|segment| &segment.files).cloned().collect();
        let new = self.rig.scratch_files().into_iter().filter(|file| !known.contains(file));
        self.segments[at].files.extend(new);
    }
}

impl StateMachineTest for Real {
    type SystemUnderTest = Self;
    type Reference = Lists;

    fn init_test(lists: &Lists) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (built, codec, disk) = (lists.built, lists.codec, Filling::default());
        let rig = Rig::on(Arc::new(disk.clone()), 1 << 20);
        let target = Arc::new(MemoryTarget::with_limits(limits()));
        let format: Box<dyn Format<Value>> =
            if built { Box::new(JsonArray::new()) } else { Box::new(JsonLines::new()) };
        let options = options().with_compression(codec);
        let sink = ObjectSink::new(format, Arc::clone(&target), options).unwrap();
        let (segments, stored, torn) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { built, codec, runtime, rig, disk, target, sink, segments, stored, torn, answers_lost: false }
    }

    fn apply(mut real: Self, lists: &Lists, step: Do) -> Self {
        match step {
            Do::Begin => {
                let at = real.rig.start(lists.begun, 0);
                let writer = real.runtime.block_on(begin(&real.sink, at));
                real.segments.push(RealSegment { writer, routes: RouteTable::new(), files: Vec::new() });
            }
            Do::Append { at, rows } => real.append(at, &lists.segments[at], &rows),
            Do::Spill { at } => {
                let result = real.runtime.block_on(real.segments[at].writer.spill());
                assert_eq!(result.is_ok(), lists.answer, "{result:?}");
                real.adopt(at);
            }
            Do::Stage { at } => {
                let rows = count(lists.segments[at].rows.len());
                let range = OffsetRange::new(Offset::new(0), Offset::new(rows)).unwrap();
                let result = real.runtime.block_on(real.segments[at].writer.stage(range));
                assert_eq!(result.is_ok(), lists.answer, "{result:?}");
                real.adopt(at);
            }
            Do::Publish { at } => real.publish(at, lists.published.as_ref().unwrap()),
            Do::Abandon { at } => {
                let mut segment = real.segments.remove(at);
                real.runtime.block_on(segment.writer.abandon());
            }
            Do::Flip { at, in_rows, place, bit } => {
                let file = &real.segments[at].files[usize::from(!in_rows)];
                let mut bytes = std::fs::read(file).unwrap();
                let place = usize::try_from(place).unwrap() * bytes.len() / 1000;
                bytes[place] ^= 1 << bit;
                std::fs::write(file, bytes).unwrap();
            }
            Do::Full(full) => real.disk.0.store(full, SeqCst),
            Do::Fail(fault) => {
                real.answers_lost |= fault == Fault::LoseAnswer;
                real.target.fail(real.target.calls().len(), fault);
            }
        }
        real
    }

    fn check_invariants(real: &Self, lists: &Lists) {
        let files = lists.segments.iter().filter(|segment| segment.files).count() * 2;
        assert_eq!(real.rig.scratch_files().len(), files);
        let stored = decoded(&real.target, real.codec);
        for (key, rows) in &stored {
            let expected = real.stored.get(key).or_else(|| real.torn.get(key));
            assert!(expected.is_some_and(|expected| expected == rows), "{key}");
        }
        assert!(real.stored.keys().all(|key| stored.contains_key(key)));
        assert_eq!(real.rig.pool.used(), 0);
        // An upload whose beginning was not answered has no name that anybody knows.
        assert!(real.answers_lost || real.target.open_uploads() == 0);
    }
}

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(200),
        max_local_rejects: u32::MAX,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn segments_side_by_side_are_published_as_they_were_written_or_not_at_all(sequential 1..40 => Real);
}
