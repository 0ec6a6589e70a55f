//! What the spool is, in numbers.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// The disk budget.
pub(crate) const BUDGET: u64 = 16 * MIB;
/// Room the spool leaves to others.
pub(crate) const HEADROOM: u64 = 8 * MIB;
/// Room there is as long as nobody says otherwise.
pub(crate) const PLENTY: u64 = 1 << 40;
/// Smaller files are not kept, and not more than a quarter of the budget.
const KEPT_MIN: u64 = MIB;
const KEPT_MAX: u64 = BUDGET / 4;
const FILES_MAX: usize = 3;
const SEGMENTS_MAX: usize = 4;

/// One step. Segments and files are named by their place among those there are.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    /// A segment begins; it has no file yet.
    Begin,
    Create {
        segment: usize,
    },
    Reserve {
        segment: usize,
        bytes: u64,
    },
    Settle {
        segment: usize,
    },
    Append {
        segment: usize,
        file: usize,
        bytes: u64,
    },
    Read {
        segment: usize,
        file: usize,
        /// In thousandths of what was written.
        from: u64,
        to: u64,
    },
    /// Somebody cuts a file off; its segment can only be given up.
    Truncate {
        segment: usize,
        file: usize,
    },
    /// The segment is done or given up.
    End {
        segment: usize,
    },
    /// The file system has so much room, by its own account.
    Room {
        bytes: u64,
    },
    /// Writing and creating is refused from now on, or no more.
    Full(bool),
    /// Another process wants the directory.
    Intrude,
    /// Somebody tidies the directory away.
    TidyAway,
    /// The process dies and leaves its files and, it may be, something that is not ours is put beside them.
    Crash {
        stranger: bool,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// Bytes appended.
    pub(crate) written: u64,
    /// Bytes on disk, as the spool knows.
    length: u64,
    /// Bytes on disk.
    pub(crate) on_disk: u64,
    /// Whether it has a name in the directory.
    named: bool,
    /// Whether somebody has cut it off.
    truncated: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    /// Told apart by this for ever.
    pub(crate) id: u64,
    pub(crate) files: Vec<File>,
    reserved: u64,
    pub(crate) written: u64,
    promised: u64,
    /// KiB taken from the budget.
    units: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) segments: Vec<Segment>,
    /// Kept files, the smallest first.
    idle: Vec<File>,
    room: u64,
    full: bool,
    begun: u64,
    /// Whether the directory has its marker.
    pub(crate) marked: bool,
    /// What the last step has to answer: it worked, or was refused.
    pub(crate) answer: bool,
    /// How long the file was that was cut off last.
    pub(crate) cut_from: u64,
}

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(KIB).clamp(1, BUDGET / KIB)
}

impl Model {
    /// Bytes of the budget that are taken.
    pub(crate) fn used(&self) -> u64 {
        let idle: u64 = self.idle.iter().map(|file| units(file.length)).sum();
        let segments: u64 = self.segments.iter().map(|segment| segment.units).sum();
        (idle + segments) * KIB
    }

    /// The lengths of the files in the directory, ascending.
    pub(crate) fn on_disk(&self) -> Vec<u64> {
        let files = self.segments.iter().flat_map(|segment| &segment.files).chain(&self.idle);
        let mut lengths: Vec<_> = files.filter(|file| file.named).map(|file| file.on_disk).collect();
        lengths.sort_unstable();
        lengths
    }

    fn fits(&self, units: u64) -> bool {
        self.used() + units * KIB <= BUDGET
    }

    fn create(&mut self, segment: usize) -> bool {
        if let Some(kept) = self.idle.pop() {
            let segment = &mut self.segments[segment];
            segment.units += units(kept.length);
            segment.reserved += kept.length;
            segment.files.push(File { written: 0, truncated: false, ..kept });
            return true;
        }
        if !self.full {
            self.marked = true;
            self.segments[segment].files.push(File { named: true, ..File::default() });
        }
        !self.full
    }

    fn reserve(&mut self, segment: usize, bytes: u64) -> bool {
        let of = &self.segments[segment];
        let missing = (of.written + bytes).saturating_sub(of.reserved);
        if missing > 0 {
            if !self.fits(units(missing)) {
                self.idle.clear();
            }
            if !self.fits(units(missing)) {
                return false;
            }
            let of = &mut self.segments[segment];
            of.units += units(missing);
            of.reserved += missing;
        }
        self.segments[segment].promised = bytes;
        let promised: u64 = self.segments.iter().map(|segment| segment.promised).sum();
        let fits = self.room >= promised + HEADROOM;
        if !fits {
            self.segments[segment].promised = 0;
        }
        fits
    }

    fn append(&mut self, segment: usize, file: usize, bytes: u64) -> bool {
        let full = self.full;
        let of = &mut self.segments[segment];
        let file = &mut of.files[file];
        // A write that fails may have done anything up to all of it: that is what has to be paid for. Here it does half.
        file.length = file.length.max(file.written + bytes);
        file.on_disk = file.on_disk.max(file.written + if full { bytes / 2 } else { bytes });
        if !full {
            of.written += bytes;
            file.written += bytes;
        }
        !full
    }

    fn end(&mut self, segment: usize) {
        let mut segment = self.segments.remove(segment);
        let files = std::mem::take(&mut segment.files);
        // Its permit comes back when its files are closed.
        self.segments.push(segment);
        for file in files {
            let kept: u64 = self.idle.iter().map(|file| file.length).sum();
            if file.length >= KEPT_MIN && kept + file.length <= KEPT_MAX && self.fits(units(file.length)) {
                let place = self.idle.partition_point(|idle| idle.length < file.length);
                self.idle.insert(place, file);
            }
        }
        self.segments.pop();
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Do;

    fn init_state() -> BoxedStrategy<Self> {
        let (segments, idle) = (Vec::new(), Vec::new());
        Just(Self {
            segments,
            idle,
            room: PLENTY,
            full: false,
            begun: 0,
            marked: true,
            answer: true,
            cut_from: 0,
        })
        .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Do> {
        let bytes = || prop_oneof![1 => 1..3 * KIB, 2 => 100 * KIB..900 * KIB, 3 => MIB..2 * MIB];
        let room = prop_oneof![Just(PLENTY), HEADROOM..HEADROOM + 3 * MIB, 0..HEADROOM];
        let mut steps = vec![
            (1, room.prop_map(|bytes| Do::Room { bytes }).boxed()),
            // A disk that is full does not stay so.
            (if state.full { 8 } else { 1 }, Just(Do::Full(!state.full)).boxed()),
            (1, Just(Do::Intrude).boxed()),
            (1, Just(Do::TidyAway).boxed()),
            (1, any::<bool>().prop_map(|stranger| Do::Crash { stranger }).boxed()),
        ];
        if state.segments.len() < SEGMENTS_MAX {
            steps.push((8, Just(Do::Begin).boxed()));
        }
        if !state.segments.is_empty() {
            let segment = || 0..state.segments.len();
            // Files that are kept are used again, and given up for somebody who asks for much.
            let kept = u32::try_from(state.idle.len()).unwrap();
            let much = BUDGET / 2..2 * BUDGET;
            let wanted = prop_oneof![4 => bytes(), (1 + 2 * kept) => much];
            steps.extend([
                (6 + 6 * kept, segment().prop_map(|segment| Do::Create { segment }).boxed()),
                (8, (segment(), wanted).prop_map(|(segment, bytes)| Do::Reserve { segment, bytes }).boxed()),
                (3, segment().prop_map(|segment| Do::Settle { segment }).boxed()),
                (6, segment().prop_map(|segment| Do::End { segment }).boxed()),
            ]);
        }
        let files: Vec<_> = (0..)
            .zip(&state.segments)
            .flat_map(|(segment, of)| (0..of.files.len()).map(move |file| (segment, file)))
            .collect();
        if !files.is_empty() {
            let file = || prop::sample::select(files.clone());
            let append = (file(), bytes());
            let read = (file(), 0..=1000_u64, 0..=1010_u64);
            steps.extend([
                (14, append.prop_map(|((segment, file), bytes)| Do::Append { segment, file, bytes }).boxed()),
                (
                    4,
                    read.prop_map(|((segment, file), from, to)| Do::Read { segment, file, from, to }).boxed(),
                ),
                (1, file().prop_map(|(segment, file)| Do::Truncate { segment, file }).boxed()),
            ]);
        }
        proptest::strategy::Union::new_weighted(steps).boxed()
    }

    fn preconditions(state: &Self, step: &Do) -> bool {
        let file = |segment: &usize, file: &usize| state.segments.get(*segment)?.files.get(*file);
        match step {
            Do::Begin => state.segments.len() < SEGMENTS_MAX,
            Do::Create { segment } => {
                state.segments.get(*segment).is_some_and(|segment| segment.files.len() < FILES_MAX)
            }
            Do::Reserve { segment, .. } | Do::Settle { segment } | Do::End { segment } => {
                *segment < state.segments.len()
            }
            Do::Append { segment, file: at, .. } => file(segment, at).is_some_and(|file| !file.truncated),
            Do::Truncate { segment, file: at } => {
                // Found by its length, so there must be one of it.
                let alone =
                    |file: &File| state.on_disk().iter().filter(|it| **it == file.on_disk).count() == 1;
                file(segment, at).is_some_and(|file| file.named && file.written > 0 && alone(file))
            }
            Do::Read { segment, file: at, from, to } => from <= to && file(segment, at).is_some(),
            Do::Intrude => state.marked,
            Do::Room { .. } | Do::Full(_) | Do::TidyAway | Do::Crash { .. } => true,
        }
    }

    fn apply(mut state: Self, step: &Do) -> Self {
        state.answer = true;
        match *step {
            Do::Begin => {
                state.begun += 1;
                state.segments.push(Segment { id: state.begun, ..Segment::default() });
            }
            Do::Create { segment } => state.answer = state.create(segment),
            Do::Reserve { segment, bytes } => state.answer = state.reserve(segment, bytes),
            Do::Settle { segment } => state.segments[segment].promised = 0,
            Do::Append { segment, file, bytes } => state.answer = state.append(segment, file, bytes),
            Do::Read { segment, file, from, to } => {
                let file = &state.segments[segment].files[file];
                let end = place(file.written, to);
                state.answer = from == to || end <= file.on_disk;
            }
            Do::Truncate { segment, file } => {
                let file = &mut state.segments[segment].files[file];
                state.cut_from = file.on_disk;
                (file.truncated, file.on_disk) = (true, file.written / 2);
            }
            Do::End { segment } => state.end(segment),
            Do::Room { bytes } => state.room = bytes,
            Do::Full(full) => state.full = full,
            Do::Intrude => {}
            Do::TidyAway => {
                state.marked = false;
                for file in
                    state.segments.iter_mut().flat_map(|segment| &mut segment.files).chain(&mut state.idle)
                {
                    file.named = false;
                }
            }
            Do::Crash { .. } => {
                (state.segments, state.idle, state.marked) = (Vec::new(), Vec::new(), true);
                state.full = false;
            }
        }
        state
    }
}

/// So many thousandths of what was written; beyond 1000, a byte beyond the end for each.
pub(crate) fn place(written: u64, thousandths: u64) -> u64 {
    written * thousandths.min(1000) / 1000 + thousandths.saturating_sub(1000)
}
