//! What a seed decides before anything runs.

use std::time::Duration;

/// What the pipelines do with poison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoisonPolicy {
    /// The lane stops; whoever runs the process lets it skip from then on.
    Stop,
    /// Not stored.
    Skip,
    /// To the dead letters.
    DeadLetter,
}

/// One simulation, whole: the same seed gives the same run, event by event.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one machine")]
pub struct Scenario {
    /// What decides everything else.
    pub seed: u64,
    /// Processes that want to be members.
    pub processes: usize,
    /// Partitions at the start.
    pub partitions: i32,
    /// Whether rebalances are cooperative; eager otherwise.
    pub cooperative: bool,
    /// For how long faults happen.
    pub chaos: Duration,
    /// Routes of the records.
    pub routes: u8,
    /// Most bytes of a record.
    pub record_bytes: usize,
    /// What happens to poison.
    pub poison: PoisonPolicy,
    /// Row bytes of an object.
    pub object_bytes: u64,
    /// Bytes of a part.
    pub part_bytes: usize,
    /// Whether objects are compressed.
    pub gzip: bool,
    /// Bytes of spool beyond what the spool leaves to others; room for a batch of every lane, as a lane whose batch fits
    /// nowhere waits for ever, and says so.
    pub disk_bytes: u64,
    /// Per mille of requests that meet a fault.
    pub faults: u32,
    /// Whether disks fail, and not only fill up.
    pub bad_disks: bool,
    /// Whether retention may pass a mark.
    pub retention_passes: bool,
    /// Whether an operator sets offsets.
    pub resets: bool,
}

impl Scenario {
    /// What `seed` stands for.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let poison = [PoisonPolicy::Stop, PoisonPolicy::Skip, PoisonPolicy::DeadLetter];
        Self {
            seed,
            processes: rng.usize(1..=3),
            partitions: rng.i32(1..=4),
            cooperative: rng.bool(),
            chaos: Duration::from_secs(rng.u64(30..150)),
            routes: rng.u8(1..=5),
            record_bytes: if rng.u8(0..4) == 0 { 6_000 } else { 200 },
            poison: poison.get(rng.usize(0..3)).copied().unwrap_or(PoisonPolicy::Skip),
            object_bytes: rng.u64(2_000..60_000),
            part_bytes: rng.usize(1_000..8_000),
            gzip: rng.u8(0..4) == 0,
            disk_bytes: if rng.u8(0..4) == 0 { rng.u64(600_000..1_200_000) } else { 4 << 20 },
            faults: if rng.u8(0..4) == 0 { 0 } else { rng.u32(5..150) },
            bad_disks: rng.u8(0..4) == 0,
            retention_passes: rng.u8(0..16) == 0,
            resets: rng.u8(0..8) == 0,
        }
    }
}
