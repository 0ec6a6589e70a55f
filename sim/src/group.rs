//! The group's coordinator: members, generations, committed offsets. It checks what Kafka's checks (the member and its
//! generation) and not what it does not (who owns the partition).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// A member that is silent for longer is gone.
pub(crate) const SESSION: Duration = Duration::from_secs(10);
/// A rebalance goes on without those who have not joined it by then.
const REBALANCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) cooperative: bool,
    /// Nobody answers for the group at the moment.
    pub(crate) away: bool,
    pub(crate) generation: u64,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) committed: BTreeMap<i32, (i64, String)>,
    rebalance_by: Option<Instant>,
    instances: u64,
}

#[derive(Debug)]
pub(crate) struct Member {
    seen: Instant,
    /// What it brought to the rebalance that is under way; `None` before it has joined that.
    joined: Option<BTreeSet<i32>>,
    pub(crate) assigned: BTreeSet<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownMember,
    IllegalGeneration,
}

/// What a member hears when it says that it is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    Fine {
        generation: u64,
        assigned: BTreeSet<i32>,
    },
    /// Join it.
    Rebalance,
    /// Joined; the others have not.
    Waiting,
    Unknown,
}

impl Group {
    pub(crate) fn new(cooperative: bool) -> Self {
        Self {
            cooperative,
            away: false,
            generation: 0,
            members: BTreeMap::new(),
            committed: BTreeMap::new(),
            rebalance_by: None,
            instances: 0,
        }
    }

    /// A new client instance asks to be a member.
    pub(crate) fn enter(&mut self) -> u64 {
        self.instances += 1;
        let member =
            Member { seen: Instant::now(), joined: Some(BTreeSet::new()), assigned: BTreeSet::new() };
        self.members.insert(self.instances, member);
        self.rebalance();
        self.instances
    }

    pub(crate) fn leave(&mut self, instance: u64) {
        if self.members.remove(&instance).is_some() {
            self.rebalance();
        }
    }

    /// Begins a rebalance, unless one is under way.
    pub(crate) fn rebalance(&mut self) {
        self.rebalance_by.get_or_insert_with(|| Instant::now() + REBALANCE);
    }

    /// `instance` joins the rebalance with the partitions it keeps, or begins one.
    pub(crate) fn join(&mut self, instance: u64, keeps: BTreeSet<i32>) {
        if let Some(member) = self.members.get_mut(&instance) {
            member.joined = Some(keeps);
            self.rebalance();
        }
    }

    pub(crate) fn pulse(&mut self, instance: u64) -> Pulse {
        let (generation, rebalancing) = (self.generation, self.rebalance_by.is_some());
        let Some(member) = self.members.get_mut(&instance) else { return Pulse::Unknown };
        member.seen = Instant::now();
        match (rebalancing, member.joined.is_some()) {
            (false, _) => Pulse::Fine { generation, assigned: member.assigned.clone() },
            (true, false) => Pulse::Rebalance,
            (true, true) => Pulse::Waiting,
        }
    }

    /// The coordinator is back: it gives everybody time to be heard.
    pub(crate) fn returned(&mut self) {
        self.away = false;
        self.members.values_mut().for_each(|member| member.seen = Instant::now());
    }

    /// What is due; answers whether a new generation began.
    pub(crate) fn step(&mut self, partitions: impl Iterator<Item = i32>, rng: &mut fastrand::Rng) -> bool {
        if self.away {
            return false;
        }
        let before = self.members.len();
        self.members.retain(|_, member| member.seen.elapsed() < SESSION);
        if self.members.len() < before {
            self.rebalance();
        }
        let Some(by) = self.rebalance_by else { return false };
        if Instant::now() >= by {
            self.members.retain(|_, member| member.joined.is_some());
        } else if self.members.values().any(|member| member.joined.is_none()) {
            return false;
        }
        self.rebalance_by = None;
        self.generation += 1;
        self.assign(partitions.collect(), rng);
        true
    }

    fn assign(&mut self, partitions: Vec<i32>, rng: &mut fastrand::Rng) {
        let most = partitions.len().div_ceil(self.members.len().max(1));
        let mut free: BTreeSet<i32> = partitions.into_iter().collect();
        for member in self.members.values_mut() {
            let claims = member.joined.take().unwrap_or_default();
            // What is taken from a member is free only once it has given it up.
            free.retain(|partition| !claims.contains(partition));
            member.assigned = claims.into_iter().take(most).collect();
        }
        let mut names: Vec<u64> = self.members.keys().copied().collect();
        rng.shuffle(&mut names);
        for partition in free {
            let load = |name: &u64| self.members.get(name).map_or(0, |member| member.assigned.len());
            let Some(least) = names.iter().min_by_key(|name| load(name)).copied() else { return };
            if let Some(member) = self.members.get_mut(&least) {
                member.assigned.insert(partition);
            }
        }
    }

    /// Whether a commit of `instance` under `generation` is taken.
    pub(crate) fn admits(&self, instance: u64, generation: u64) -> Result<(), Refusal> {
        if !self.members.contains_key(&instance) {
            return Err(Refusal::UnknownMember);
        }
        if generation == self.generation { Ok(()) } else { Err(Refusal::IllegalGeneration) }
    }

    pub(crate) fn owner(&self, partition: i32) -> Option<u64> {
        let owns = |(name, member): (&u64, &Member)| member.assigned.contains(&partition).then_some(*name);
        self.members.iter().find_map(owns)
    }
}
