//! The partitions this process owns, as the poll thread sees them.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_core::{InFlight, Offset, TopicPartition};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;

use crate::commit::CommitSlot;
use crate::copy::{ARENA_MIN, Arena};

/// One owned partition.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent reasons to pause, each with its own end")]
pub(crate) struct Lane {
    pub(crate) name: TopicPartition,
    /// The offset after the last record taken.
    pub(crate) next: Offset,
    /// The position last told to the pipeline beside its batches.
    pub(crate) reached: Option<Offset>,
    /// The end of the partition when it was assigned.
    pub(crate) end_at_start: Offset,
    /// Where a bounded run stops.
    pub(crate) stop_at: Option<Offset>,
    /// The client came to the end of the partition since [`reached`](Self::reached) was told.
    pub(crate) at_end: bool,
    /// The batch being filled.
    pub(crate) arena: Option<Arena>,
    /// Size of the next arena: quiet partitions take small ones.
    pub(crate) arena_bytes: usize,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) commit: CommitSlot,
    /// On its way to another member: nothing is delivered any more.
    pub(crate) leaving: bool,
    /// Asked for by the pipeline.
    pub(crate) paused: bool,
    /// Too much of it is in flight.
    pub(crate) ahead: bool,
    /// What the client was told.
    pub(crate) told_paused: bool,
}

impl Lane {
    pub(crate) fn new(name: TopicPartition, start: Offset, end: Offset, stop_at: Option<Offset>) -> Self {
        Self {
            name,
            next: start,
            reached: None,
            end_at_start: end,
            stop_at,
            at_end: false,
            arena: None,
            arena_bytes: ARENA_MIN,
            in_flight: Arc::default(),
            commit: CommitSlot::default(),
            leaving: false,
            paused: false,
            ahead: false,
            told_paused: false,
        }
    }

    /// Whether a bounded run has everything it wants of the partition.
    pub(crate) fn is_finished(&self) -> bool {
        self.stop_at.is_some_and(|stop| self.next >= stop)
    }

    /// Whether the client should not fetch it, for a reason of its own.
    pub(crate) fn wants_pause(&self) -> bool {
        self.paused || self.ahead || self.is_finished()
    }
}

/// All owned partitions, with the way from a message to its lane.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    all: Vec<Lane>,
    by_name: HashMap<TopicPartition, usize>,
    /// Address of the client's topic object and partition → lane. Valid while the assignment does not change: the
    /// client keeps the topic objects of assigned partitions.
    by_address: HashMap<(usize, i32), usize>,
    last: Option<((usize, i32), usize)>,
}

impl Lanes {
    /// The index of the message's lane; `None` if it is not ours.
    ///
    /// Messages come in runs of one partition, so that the common case is one comparison.
    pub(crate) fn find(&mut self, message: &BorrowedMessage<'_>) -> Option<usize> {
        let address = (message.topic_ptr().addr(), message.partition());
        if let Some((last, index)) = self.last
            && last == address
        {
            return Some(index);
        }
        let index = match self.by_address.get(&address) {
            Some(&index) => index,
            None => self.index_of(&TopicPartition::new(message.topic(), message.partition()))?,
        };
        self.by_address.insert(address, index);
        self.last = Some((address, index));
        Some(index)
    }

    pub(crate) fn index_of(&self, name: &TopicPartition) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Lane> {
        self.all.get_mut(index)
    }

    pub(crate) fn named(&mut self, name: &TopicPartition) -> Option<&mut Lane> {
        let index = self.index_of(name)?;
        self.all.get_mut(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.all.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.all.iter_mut()
    }

    pub(crate) fn insert(&mut self, lane: Lane) {
        self.all.retain(|other| other.name != lane.name);
        self.all.push(lane);
        self.index();
    }

    /// Takes out the lanes whose name is in `names`.
    pub(crate) fn remove(&mut self, names: &[TopicPartition]) -> Vec<Lane> {
        let (gone, kept) = self.all.drain(..).partition(|lane| names.contains(&lane.name));
        self.all = kept;
        self.index();
        gone
    }

    pub(crate) fn clear(&mut self) -> Vec<Lane> {
        let gone = std::mem::take(&mut self.all);
        self.index();
        gone
    }

    fn index(&mut self) {
        self.by_name = self.all.iter().enumerate().map(|(index, lane)| (lane.name.clone(), index)).collect();
        self.by_address.clear();
        self.last = None;
    }
}
