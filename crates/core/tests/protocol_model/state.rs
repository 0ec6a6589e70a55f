//! What the model remembers: two members, the coordinator's view of their group, the marks, the bucket.
//!
//! Everything is small and `Copy`: the checker keeps, hashes and compares hundreds of thousands of these.

/// Most records of a lane any configuration uses; sizes the bucket.
pub(super) const RECORDS_MAX: usize = 6;
/// Most lanes any configuration uses; a configuration of one lane leaves the second untouched.
pub(super) const LANES_MAX: usize = 2;

/// One of the two processes. Which is which never matters, so twins can be merged (see `Protocol::twins`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    A,
    B,
}

impl Name {
    pub(super) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The offsets `[start, end)` of one segment; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Segment {
    pub start: u8,
    pub end: u8,
}

impl Segment {
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The routes a segment's records take: even offsets one, odd offsets the other. Each route is one object,
    /// named after the first of its offsets, so the two names are the segment's first two offsets.
    pub(super) fn objects(self) -> u8 {
        (self.end - self.start).min(2)
    }

    /// Is the record at `offset` a row of the object named `key`, if that object is this segment's?
    pub(super) fn row(self, key: u8, offset: u8) -> bool {
        (key..self.end).contains(&offset) && offset % 2 == key % 2
    }
}

/// What Kafka keeps for a lane: the next offset to read and, in the commit's metadata, the cut being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark {
    pub next: u8,
    /// End of the segment that starts at `next` and may already be (partly) visible.
    pub intent: Option<u8>,
    /// Written by someone else: it has no marker of ours.
    pub foreign: bool,
}

impl Mark {
    pub(super) fn at(next: u8) -> Self {
        Self { next, intent: None, foreign: false }
    }

    pub(super) fn with_intent(segment: Segment) -> Self {
        Self { next: segment.start, intent: Some(segment.end), foreign: false }
    }
}

/// One topic-partition: its mark, its owner as the coordinator sees it, and its part of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Partition {
    pub mark: Mark,
    /// The highest offset any mark ever had. Only a mark that went backwards is below it.
    pub high: u8,
    pub owner: Option<Name>,
    /// A cooperative rebalance has asked the owner to let go.
    pub moving: bool,
    /// The visible objects: at key `k` (the object's first offset), the segment it was cut from. Rows and checksum
    /// follow from key and segment, because converter, partitioner and format are deterministic.
    pub bucket: [Option<Segment>; RECORDS_MAX],
}

impl Partition {
    pub(super) const EMPTY: Self = Self {
        mark: Mark { next: 0, intent: None, foreign: false },
        high: 0,
        owner: None,
        moving: false,
        bucket: [None; RECORDS_MAX],
    };

    /// The visible objects as (key, segment).
    pub(super) fn objects(&self) -> impl Iterator<Item = (u8, Segment)> {
        (0_u8..).zip(&self.bucket).filter_map(|(key, object)| object.map(|segment| (key, segment)))
    }

    /// In how many visible objects the record at `offset` is.
    pub(super) fn copies(&self, offset: u8) -> usize {
        self.objects().filter(|(key, segment)| segment.row(*key, offset)).count()
    }

    /// Are all objects of `segment` visible?
    pub(super) fn shows(&self, segment: Segment) -> bool {
        let found = self.objects().filter(|(_, there)| *there == segment).count();
        found == usize::from(segment.objects())
    }

    pub(super) fn visible_below(&self, offset: u8) -> bool {
        (0..offset).all(|below| self.copies(below) > 0)
    }
}

/// How a member and the group coordinator see each other. Generation *numbers* are only ever compared with the
/// group's current one, and none comes back: "is it the current one" is all there is to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Membership {
    /// No client, and the coordinator knows of none.
    Absent,
    /// The client is gone (crashed or ended), the coordinator has not noticed yet.
    Ghost,
    /// A member of the current generation.
    Current,
    /// A member that has not yet heard of the current generation.
    Behind,
    /// Thrown out of the group without knowing it: the zombie.
    Evicted,
}

impl Membership {
    /// Does the coordinator count this member?
    pub(super) fn in_group(self) -> bool {
        matches!(self, Self::Ghost | Self::Current | Self::Behind)
    }

    /// Is there a client instance that believes it is a member?
    pub(super) fn has_client(self) -> bool {
        matches!(self, Self::Current | Self::Behind | Self::Evicted)
    }
}

/// Why a lane waits for a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Stop {
    /// The object's name is taken by other rows (`ObjectConflict`).
    Conflict,
    /// The mark is not ours and may not be adopted.
    ForeignMark,
}

/// Where one member is with one lane. Anything but `Idle` means that it holds, or believes to hold, the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    Idle,
    /// The lane is ours; its mark is not read yet.
    Assigned,
    /// Reading from `start` into the spool. `pinned` is the end a former owner wrote down.
    Filling {
        start: u8,
        pinned: Option<u8>,
    },
    /// Cut and staged. Phase 1: waits for the commit of (start, intent).
    Intending(Segment),
    /// Phase 2: `done` of the segment's objects are known to be visible.
    Publishing {
        segment: Segment,
        done: u8,
    },
    /// Phase 3: waits for the commit of the end.
    Committing(Segment),
    Stopped(Stop),
}

/// The one commit a lane may have under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Commit {
    None,
    /// Kept back inside the client library (no coordinator to be had); stamped only when it is sent.
    Deferred(Mark),
    /// On the wire, stamped with the generation that is still the current one.
    Sent(Mark),
    /// Written; the answer is on its way back, or lost.
    Applied,
    /// Refused for its generation; the answer is on its way back, or lost.
    Refused,
}

/// One process with its client instance and its lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Member {
    pub membership: Membership,
    pub work: [Work; LANES_MAX],
    pub commit: [Commit; LANES_MAX],
    /// Deferred commits that outlived the lease they were made under. Our rules keep this empty.
    pub stray: [Option<Mark>; LANES_MAX],
}

impl Member {
    pub(super) const ABSENT: Self = Self {
        membership: Membership::Absent,
        work: [Work::Idle; LANES_MAX],
        commit: [Commit::None; LANES_MAX],
        stray: [None; LANES_MAX],
    };
}

/// A PUT that left its member and has not reached the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LatePut {
    pub lane: usize,
    pub key: u8,
    pub segment: Segment,
}

/// How often an exploration may still do what would otherwise go on without end, or what only some ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Allowance {
    /// Crashes and evictions; `None` is any number.
    pub faults: Option<u8>,
    /// Moves of a lane to the other member; `None` is any number.
    pub moves: Option<u8>,
    /// Old marks of ours that re-appear.
    pub regressions: u8,
    /// Offsets written by an operator's tool.
    pub resets: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State {
    pub members: [Member; 2],
    pub partitions: [Partition; LANES_MAX],
    pub late: Option<LatePut>,
    pub left: Allowance,
    /// Has a commit been written whose lease was over? Kept for the property, no transition reads it.
    pub fence_broken: bool,
}

impl State {
    pub(super) fn member(&self, name: Name) -> &Member {
        &self.members[name as usize]
    }

    pub(super) fn member_mut(&mut self, name: Name) -> &mut Member {
        &mut self.members[name as usize]
    }

    /// The same situation with the names of the two members exchanged.
    pub(super) fn swapped(mut self) -> Self {
        self.members.swap(0, 1);
        for partition in &mut self.partitions {
            partition.owner = partition.owner.map(Name::other);
        }
        self
    }
}
