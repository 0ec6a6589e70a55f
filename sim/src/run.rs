//! One simulation: processes, what is done to them, and the verdict.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aqueduct_core::{
    Budget, Class, Guarantee, Idle, LaneError, Limits, MaxAge, MaxBytes, MaxRecords, OnLaneFailure, OnPoison,
    Pipeline, PipelineError, RotationPolicy, Schedule, any,
};
use aqueduct_files::{Compression, Delimited, ObjectOptions, ObjectSink};
use tokio::sync::watch;

use crate::client::name;
use crate::log::Kind;
use crate::process::{Mode, Process, WallClock};
use crate::scenario::{PoisonPolicy, Scenario};
use crate::source::{ByFirstByte, SimSource, Values};
use crate::storage::{Letters, MemoryDisk, Target};
use crate::world::{State, World};

/// After the last fault everything is stored within this time, simulated.
const DRAIN: Duration = Duration::from_mins(15);

/// How a simulation ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What it was.
    pub scenario: Scenario,
    /// The promise that was broken, if one was.
    pub violation: Option<String>,
    /// Equal for equal runs: over every event and when it was.
    pub trace_hash: u64,
    /// Events in it.
    pub events: u64,
    /// The events, if they were asked for.
    pub trace: Vec<String>,
    /// What was injected, and how often.
    pub injected: BTreeMap<&'static str, u64>,
    /// Rows visible at the end.
    pub rows: u64,
    /// Objects visible at the end.
    pub objects: u64,
    /// Commits taken.
    pub commits: u64,
    /// Simulated time.
    pub simulated: Duration,
}

/// Runs `scenario` to its end, in this thread. `keep_trace` keeps every event as a line.
///
/// # Panics
/// If the system has no room for another runtime.
pub fn simulate(scenario: Scenario, keep_trace: bool) -> Outcome {
    // The jitter of back-off is drawn from this thread's generator.
    fastrand::seed(scenario.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    runtime.block_on(async {
        let world = World::new(scenario, keep_trace);
        let audit = live(&world).await;
        let simulated = world.elapsed();
        let mut state = world.state();
        let state = &mut *state;
        let (rows, problem) = audit.map_or_else(|problem| (0, Some(problem)), |rows| (rows, None));
        Outcome {
            scenario: world.scenario.clone(),
            violation: state.ledger.violation.take().or(problem),
            trace_hash: state.trace.hash,
            events: state.trace.events,
            trace: state.trace.lines.take().unwrap_or_default(),
            injected: std::mem::take(&mut state.injected),
            rows,
            objects: state.store.objects() as u64,
            commits: state.ledger.commits,
            simulated,
        }
    })
}

/// What a process is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    /// Stop in order; another is started.
    Restart,
    /// Stop in order, for good.
    Finish,
}

/// A place for a process, with the one that is there.
struct Slot {
    process: Arc<Mutex<Option<Arc<Process>>>>,
    wish: watch::Sender<Wish>,
    task: tokio::task::JoinHandle<()>,
}

async fn live(world: &Arc<World>) -> Result<u64, String> {
    let coordinator = tokio::spawn(coordinate(Arc::clone(world)));
    let slots: Vec<Slot> = (0..world.scenario.processes)
        .map(|number| {
            let (process, wish) = (Arc::default(), watch::Sender::new(Wish::Run));
            let task = tokio::spawn(occupy(Arc::clone(world), number, Arc::clone(&process), wish.clone()));
            Slot { process, wish, task }
        })
        .collect();
    while world.elapsed() < world.scenario.chaos && world.state().ledger.violation.is_none() {
        let pause = world.state().rng.u64(100..2_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        disturb(world, &slots).await;
    }
    calm(world, &slots);
    let drained = drained(world).await;
    for slot in &slots {
        slot.wish.send_replace(Wish::Finish);
    }
    for slot in slots {
        if tokio::time::timeout(DRAIN, slot.task).await.is_err() {
            return Err("I12: a process does not end".to_owned());
        }
    }
    coordinator.abort();
    drained?;
    let state = world.state();
    for (slot, files) in &state.disks {
        let left: Vec<_> = files.names().filter(|path| !path.ends_with("aqueduct-spool")).collect();
        if !left.is_empty() {
            return Err(format!("I9: the spool of place {slot} holds {left:?} after a drain"));
        }
    }
    state.ledger.audit(&state.logs, world.scenario.poison)
}

async fn coordinate(world: Arc<World>) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut state = world.state();
        let State { group, logs, rng, trace, .. } = &mut *state;
        if group.step(logs.keys().copied(), rng) {
            let members: Vec<_> = group.members.iter().map(|(name, it)| (name, &it.assigned)).collect();
            trace.note(format_args!("generation {}: {members:?}", group.generation));
        }
    }
}

/// Something happens to somebody.
async fn disturb(world: &Arc<World>, slots: &[Slot]) {
    let (action, slot) = {
        let mut state = world.state();
        (state.rng.u32(0..100), state.rng.usize(0..slots.len()))
    };
    if (33..35).contains(&action) && world.scenario.resets {
        return reset(world, slots).await;
    }
    let process = slots.get(slot).and_then(|slot| held(&slot.process).clone());
    disturb_now(world, slots, slot, process, action);
}

fn disturb_now(world: &Arc<World>, slots: &[Slot], slot: usize, process: Option<Arc<Process>>, action: u32) {
    let mut state = world.state();
    match (action, process) {
        (0..8, Some(process)) => {
            kill(&mut state, &process);
        }
        (8..14, Some(process)) => {
            state.count("freezes");
            state.trace.note(format_args!("process {slot} is frozen"));
            let frozen = Duration::from_millis(state.rng.u64(200..40_000));
            process.set(Mode::Frozen);
            tokio::spawn(async move {
                tokio::time::sleep(frozen).await;
                process.set(Mode::Running);
            });
        }
        (14..18, Some(_)) => {
            state.count("graceful restarts");
            state.trace.note(format_args!("process {slot} is asked to stop"));
            if let Some(slot) = slots.get(slot) {
                slot.wish.send_replace(Wish::Restart);
            }
        }
        (18..22, _) if !state.group.away => {
            state.count("coordinator away");
            state.trace.note(format_args!("the coordinator is away"));
            state.group.away = true;
            let away = Duration::from_millis(state.rng.u64(100..25_000));
            let world = Arc::clone(world);
            tokio::spawn(async move {
                tokio::time::sleep(away).await;
                let mut state = world.state();
                if state.group.away {
                    state.group.returned();
                    state.trace.note(format_args!("the coordinator is back"));
                }
            });
        }
        (22..25, _) => {
            state.count("clock jumps");
            state.skew_ms += state.rng.i64(-3_600_000..=3_600_000);
        }
        (25..28, _) => {
            state.count("rebalances");
            state.group.rebalance();
        }
        (28..29, _) if state.logs.len() < 6 => {
            state.count("partitions added");
            let next = i32::try_from(state.logs.len()).unwrap_or(i32::MAX);
            state.logs.insert(next, crate::log::Log::default());
            state.group.rebalance();
        }
        (29..33, _) => retain(world, &mut state),
        (35..40, _) => {
            state.count("transaction gaps");
            let gap = state.rng.i64(1..20);
            if let Some(log) = any_log(&mut state) {
                log.end += gap;
            }
        }
        _ => produce(world, &mut state),
    }
}

fn held(process: &Mutex<Option<Arc<Process>>>) -> std::sync::MutexGuard<'_, Option<Arc<Process>>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill(state: &mut State, process: &Process) {
    state.count("crashes");
    state.trace.note(format_args!("process {}.{} is killed", process.slot, process.life));
    process.set(Mode::Dead);
    // The system gives back what a dead process had locked.
    if let Some(files) = state.disks.get_mut(&process.slot)
        && files.locked_by == Some(process.life)
    {
        files.locked_by = None;
    }
}

fn any_log(state: &mut State) -> Option<&mut crate::log::Log> {
    let State { rng, logs, .. } = state;
    let index = rng.usize(0..logs.len());
    logs.values_mut().nth(index)
}

fn produce(world: &World, state: &mut State) {
    let State { rng, logs, .. } = state;
    let time = i64::try_from(world.elapsed().as_millis()).unwrap_or(i64::MAX);
    let index = rng.usize(0..logs.len());
    let Some((partition, log)) = logs.iter_mut().nth(index) else { return };
    for _ in 0..rng.u32(1..60) {
        let kind = match rng.u8(0..100) {
            0..2 => Kind::Poison,
            2..8 => Kind::Tombstone,
            _ => Kind::Good,
        };
        let (route, bytes) = (rng.u8(0..world.scenario.routes), rng.usize(0..world.scenario.record_bytes));
        log.append(*partition, kind, route, bytes, time);
    }
}

/// Retention goes up to the mark, or past it where the scenario says so.
fn retain(world: &World, state: &mut State) {
    let passes = world.scenario.retention_passes && state.rng.u8(0..4) == 0;
    let partitions = state.logs.len();
    let index = state.rng.usize(0..partitions);
    let by = state.rng.i64(1..200);
    let State { logs, group, injected, .. } = state;
    let Some((partition, log)) = logs.iter_mut().nth(index) else { return };
    let mark = group.committed.get(partition).map_or(0, |committed| committed.0);
    let to = if passes { (mark + by).min(log.end) } else { (log.start + by).min(mark) };
    if to > mark {
        log.passed = true;
        *injected.entry("retention past a mark").or_default() += 1;
    } else {
        *injected.entry("retention").or_default() += 1;
    }
    log.start = log.start.max(to);
}

/// An operator sets an offset, as one may only when nobody is a member; whoever comes next must stop, and go on where it was
/// once the operator has put it back.
async fn reset(world: &Arc<World>, slots: &[Slot]) {
    for slot in slots {
        if let Some(process) = held(&slot.process).take() {
            kill(&mut world.state(), &process);
        }
    }
    let (partition, was) = {
        let mut state = world.state();
        state.group.members.clear();
        let partitions = state.logs.len();
        let index = state.rng.usize(0..partitions);
        let Some(partition) = state.logs.keys().nth(index).copied() else { return };
        let Some(was) = state.group.committed.get(&partition).cloned() else { return };
        let at = {
            let State { logs, rng, .. } = &mut *state;
            let Some(log) = logs.get_mut(&partition) else { return };
            log.foreign = true;
            rng.i64(log.start..=log.end)
        };
        state.count("foreign resets");
        state.trace.note(format_args!("an operator sets {partition} from {was:?} to {at}"));
        state.group.committed.insert(partition, (at, String::new()));
        (partition, was)
    };
    tokio::time::sleep(Duration::from_secs(20)).await;
    // They have stopped, or are on their way to; nobody is a member when it is put back.
    for slot in slots {
        if let Some(process) = held(&slot.process).take() {
            kill(&mut world.state(), &process);
        }
    }
    let mut state = world.state();
    state.group.members.clear();
    let now = state.group.committed.get(&partition).cloned();
    if now.as_ref().is_none_or(|now| !now.1.is_empty()) {
        state.ledger.violate(format!("a foreign mark of {partition} was replaced by {now:?}"));
    }
    state.group.committed.insert(partition, was);
    if let Some(log) = state.logs.get_mut(&partition) {
        log.foreign = false;
    }
    state.trace.note(format_args!("the operator puts {partition} back"));
}

/// Faults stop.
fn calm(world: &World, slots: &[Slot]) {
    for slot in slots {
        if let Some(process) = &*held(&slot.process) {
            process.set(Mode::Running);
        }
    }
    let mut state = world.state();
    state.calm = true;
    state.group.returned();
    state.trace.note(format_args!("calm"));
}

/// Waits until every partition's mark is at its end.
async fn drained(world: &World) -> Result<(), String> {
    let by = world.elapsed() + DRAIN;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let state = world.state();
        if let Some(violation) = &state.ledger.violation {
            return Err(violation.clone());
        }
        let behind = state.logs.iter().find(|(partition, log)| {
            let committed = state.group.committed.get(partition);
            let done = |(at, text): &(i64, String)| *at == log.end && !text.contains(" e=");
            !log.passed && !committed.map_or(log.end == 0, done)
        });
        let Some((partition, log)) = behind else { return Ok(()) };
        if world.elapsed() > by {
            let committed = state.group.committed.get(partition);
            return Err(format!("I11: {partition} ends at {} and stays at {committed:?}", log.end));
        }
    }
}

/// Keeps a process in a place: starts one, and another when it has ended.
async fn occupy(
    world: Arc<World>,
    slot: usize,
    place: Arc<Mutex<Option<Arc<Process>>>>,
    wishes: watch::Sender<Wish>,
) {
    for life in 0.. {
        let process = Process::start(&world, slot, life);
        *held(&place) = Some(Arc::clone(&process));
        let budget = Budget::new(Budget::MIN_MEMORY, world.scenario.disk_bytes);
        let mut wish = wishes.subscribe();
        let stopped = async move {
            drop(wish.wait_for(|wish| *wish != Wish::Run).await);
        };
        let running = Box::pin(pipeline(&process, &budget, life).run(stopped));
        let ended = tokio::select! {
            biased;
            () = process.died() => None,
            ended = running => Some(ended),
        };
        match ended {
            None => {}
            Some(ended) => {
                let used = budget.disk().used();
                let mut state = world.state();
                state.trace.note(format_args!("process {slot}.{life} ended: {:?}", ended.as_ref().err()));
                if used != 0 {
                    state.ledger.violate(format!("I9: {used} bytes of disk are held after a run"));
                }
                match ended {
                    Ok(_) => {}
                    Err(error) => judge(&world, &mut state, &error),
                }
            }
        }
        process.set(Mode::Dead);
        if *wishes.borrow() == Wish::Finish {
            return;
        }
        wishes.send_if_modified(|wish| {
            *wish = Wish::Run;
            false
        });
        let pause = world.state().rng.u64(200..5_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn pipeline(process: &Arc<Process>, budget: &Budget, life: u64) -> Pipeline {
    let world = &process.world;
    let scenario = &world.scenario;
    let compression = if scenario.gzip { Compression::Gzip } else { Compression::None };
    let options = ObjectOptions::default()
        .with_compression(compression)
        .with_target_object_bytes(scenario.object_bytes)
        .with_part_bytes(scenario.part_bytes)
        .with_requests(4);
    let sink = ObjectSink::new(Delimited::lines(), Target(Arc::clone(process)), options);
    let sink = sink.unwrap_or_else(|problems| panic!("{problems:?}"));
    // The first life of a process that stops at poison ends there; the next one has learnt to skip it.
    let stops = life == 0 && scenario.poison == PoisonPolicy::Stop;
    let poison = match scenario.poison {
        PoisonPolicy::Stop if stops => OnPoison::Stop,
        PoisonPolicy::Stop | PoisonPolicy::Skip => OnPoison::Skip,
        PoisonPolicy::DeadLetter => OnPoison::DeadLetter(Arc::new(Letters(Arc::clone(process)))),
    };
    // A lane that nobody can help, its records are gone, would end each process before the others have caught up. Before the
    // calm a lane may fail for reasons that a restart ends.
    let keeps = scenario.retention_passes && world.state().calm && !stops;
    let on_failure = if keeps { OnLaneFailure::KeepOthers } else { OnLaneFailure::Stop };
    let rotation = rotation(&mut world.state().rng);
    let built = Pipeline::from(SimSource::new(process))
        .convert(Values)
        .partition(ByFirstByte)
        .sink(sink)
        .rotate(rotation)
        .on_poison(poison)
        .on_lane_failure(on_failure)
        .limits(Limits::default().with_budget(budget))
        .require(Guarantee::ExactlyOnce)
        .clock(Arc::new(WallClock(Arc::clone(world))))
        .disk(Arc::new(MemoryDisk(Arc::clone(process))))
        .spool_dir("/sim")
        .build();
    built.unwrap_or_else(|errors| panic!("{errors}"))
}

/// How segments end is any process's own business.
fn rotation(rng: &mut fastrand::Rng) -> Box<dyn RotationPolicy> {
    let records = MaxRecords(rng.u64(1..200));
    let age = MaxAge::seconds(rng.u64(1..30));
    match rng.u8(0..5) {
        0 => Box::new(any((records, age))),
        1 => Box::new(age),
        2 => Box::new(any((MaxBytes::bytes(rng.u64(500..50_000)), age))),
        3 => Box::new(any((Schedule::minutes(1, "UTC"), records))),
        _ => Box::new(any((Idle::seconds(rng.u64(1..6)), age))),
    }
}

/// A process may only end with an error whose cause was injected.
fn judge(world: &World, state: &mut State, error: &PipelineError) {
    let scenario = &world.scenario;
    let passed = state.logs.values().any(|log| log.passed);
    let excused = match error {
        // A process that freezes while it looks finds that the time is over.
        PipelineError::Sink(_) | PipelineError::DeadLetters(_) => {
            scenario.faults > 0 || state.injected.contains_key("freezes")
        }
        PipelineError::Source(_) => passed,
        PipelineError::Lane { lane, source } => {
            let mut logs = state.logs.iter();
            let log = logs.find(|(partition, _)| name(**partition) == *lane).map(|(_, log)| log);
            match &**source {
                LaneError::Poisoned { .. } => scenario.poison == PoisonPolicy::Stop,
                LaneError::RetentionPassed { .. } | LaneError::ReplayDiverged { .. } => {
                    log.is_some_and(|log| log.passed)
                }
                LaneError::ForeignMark { .. } => log.is_some_and(|log| log.foreign),
                LaneError::Stage(error) => scenario.bad_disks && error.class() == Class::Fatal,
                _ => false,
            }
        }
        _ => false,
    };
    state.count("processes that stopped by themselves");
    if !excused {
        state.ledger.violate(format!("ended without a cause that was injected: {error:?}"));
    }
}
