//! The broker, the store and the processes, and what must be true of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::testkit::{
    Fault, Faults, Faulty, Gate, ManualClock, MemorySink, ScriptedMember, ScriptedRecord, Step,
};
use aqueduct_core::{
    Budget, ErrorChain, Handle, LaneState, Limits, Mark, MaxAge, MaxBytes, MaxRecords, Offset, OnPoison,
    Pipeline, PipelineError, Report, any,
};
use bytes::Bytes;
use proptest_state_machine::StateMachineTest;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::disk::MemoryDisk;
use super::steps::{Do, How, Kind, Known, PROCESSES, Setup};
use super::watch::{Watch, WatchedLetters, WatchedSink, WatchedSource};
use crate::stages::{ByFirstByte, Raw};

pub(super) struct World {
    watch: Watch,
    clock: ManualClock,
    gates: Vec<Gate>,
    processes: [Option<Process>; PROCESSES],
    /// Faults that were planned on the store and on commits, and may still be to come.
    planned: usize,
    /// One of those ends the process that meets it.
    may_end: bool,
}

/// What the coordinator has done last, as far as this process goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partition {
    Given,
    /// Taken away, and it is told so, or will be.
    Taken,
    TakenSilently,
}

struct Process {
    runtime: Runtime,
    running: JoinHandle<Result<Report, PipelineError>>,
    handle: Handle,
    member: ScriptedMember,
    faults: Faults,
    stop: Option<oneshot::Sender<()>>,
    disk: Arc<MemoryDisk>,
    budget: Budget,
    stopped: bool,
    partition: Partition,
    /// It may lose its lane, or end, by a fault that says so.
    may_end: bool,
}

impl Process {
    /// Everything but the assignment. `bounded`: until the end of the log, and then it is over.
    fn start(watch: &Watch, clock: &ManualClock, setup: Setup, bounded: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let faults = Faults::new();
        let refuses = |kind| {
            let watch = watch.clone();
            move |offset| watch.kind(offset) == kind
        };
        let sink = MemorySink::<Bytes>::bytes(&watch.store)
            .routes_max(setup.routes)
            .refuse_at_stage(refuses(Kind::LateRefused))
            .refuse_at_publish(refuses(Kind::LastRefused));
        let sink = WatchedSink { inner: Faulty::new(sink, &faults), watch: watch.clone() };
        let source = watch.broker.source().batch_records(setup.batch);
        let source = if bounded { source.until_end() } else { source.unassigned() };
        let member = source.member();
        let (disk, budget) = (Arc::new(MemoryDisk::default()), Budget::new(Budget::MIN_MEMORY, 1 << 20));
        let letters = Faulty::new(watch.letters.clone(), &faults);
        let letters = Arc::new(WatchedLetters { inner: letters, watch: watch.clone() });
        let pipeline = Pipeline::from(WatchedSource { inner: source, watch: watch.clone() })
            .convert(Raw)
            .partition(ByFirstByte("first/1"))
            .sink(sink)
            .rotate(any((
                MaxRecords(setup.records),
                MaxBytes::bytes(setup.bytes),
                MaxAge::seconds(setup.age_s),
            )))
            .on_poison(OnPoison::DeadLetter(letters))
            .limits(Limits::default().with_budget(&budget))
            .clock(Arc::new(clock.clone()))
            .disk(Arc::<MemoryDisk>::clone(&disk))
            .build()
            .unwrap();
        let handle = pipeline.handle();
        let (stop, stopped) = oneshot::channel();
        let running = runtime.spawn(pipeline.run(async {
            // A process that is dropped is not asked to stop.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        let (stop, stopped, may_end) = (Some(stop), false, false);
        Self {
            runtime,
            running,
            handle,
            member,
            faults,
            stop,
            disk,
            budget,
            stopped,
            partition: Partition::Given,
            may_end,
        }
    }

    /// Runs until `asked` is answered, or for a minute by its own time; says whether it was.
    fn ask(&self, asked: impl Future<Output = ()>) -> bool {
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), asked).await }).is_ok()
    }

    fn run(&self, ms: u64) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
    }

    /// Why it is over although nobody wanted that.
    fn ended_wrongly(&mut self) -> Option<String> {
        if !self.running.is_finished() || self.may_end {
            return None;
        }
        match self.runtime.block_on(&mut self.running).unwrap() {
            Ok(_) if self.stopped => {
                self.may_end = true;
                None
            }
            Ok(report) => Some(format!("ended: {report}")),
            Err(error) => Some(ErrorChain(&error).to_string()),
        }
    }
}

impl World {
    fn process(&mut self, of: usize) -> &mut Process {
        self.processes[of].as_mut().unwrap()
    }

    fn produce(&self, kinds: &[Kind]) {
        let Watch { broker, lane, .. } = &self.watch;
        for kind in kinds {
            let offset = broker.end(lane).get();
            self.watch.produced(*kind);
            match kind {
                Kind::Row(route) => drop(broker.append(lane, format!("{route}-{offset}"))),
                Kind::LateRefused | Kind::LastRefused => drop(broker.append(lane, format!("r-{offset}"))),
                Kind::Bad => drop(broker.append(lane, "bad")),
                Kind::NoRoute => drop(broker.append(lane, format!("!{offset}"))),
                Kind::Tombstone => drop(broker.append(lane, ScriptedRecord::tombstone())),
                Kind::Gap => broker.skip(lane, 1),
            }
        }
    }

    fn fault(&mut self, how: How) -> Fault {
        let gate = Gate::new();
        self.gates.push(gate.clone());
        how.fault(&gate)
    }

    fn open_gates(&mut self) {
        for gate in self.gates.drain(..) {
            gate.open();
        }
    }

    /// Asks for everything that was taken in to be published, and holds the answer against that.
    fn flush(&mut self, of: usize) {
        let (lane, broker) = (self.watch.lane.clone(), self.watch.broker.clone());
        let process = self.process(of);
        let taken_in = |process: &Process| {
            let lanes = process.handle.status().lanes;
            let owned = process.member.owned().contains(&lane);
            lanes
                .into_iter()
                .find(|status| status.lane == lane && owned && status.state != LaneState::Recovering)
        };
        // What the coordinator has done so far is heard of; it does nothing more until the answer.
        process.run(1);
        let before = taken_in(process);
        let flushed = process.ask(process.handle.flush());
        if let (Some(before), Some(after)) = (before, taken_in(process))
            && flushed
            && !process.may_end
            && process.partition == Partition::Given
            && !process.running.is_finished()
            && !after.pending_intent
        {
            let mark = broker.mark(&lane).map_or(Offset::ZERO, |mark| mark.next);
            assert!(mark >= before.position, "flushed, and {mark} is below {}", before.position);
        }
    }

    /// Whoever owns the lane and may go on brings it to the end of the log, when nothing fails any more.
    fn settle(&mut self) {
        self.open_gates();
        let Watch { broker, lane, .. } = self.watch.clone();
        for process in self.processes.iter_mut().flatten() {
            for step in [Step::Begin, Step::Spill, Step::Stage, Step::Publish, Step::Send] {
                process.faults.clear(step);
            }
            process.run(120_000);
            assert!(process.ask(process.handle.resume()), "nobody listens any more");
            assert!(process.running.is_finished() || !process.stopped, "it was asked to stop");
            if process.partition == Partition::Taken {
                let left = (process.budget.disk().used(), process.disk.files());
                assert_eq!(left, (0, 0), "scratch of a lane that has gone");
            }
            let owns = process.member.owned().contains(&lane);
            if owns && self.planned == 0 && !process.may_end && !process.stopped {
                process.run(60_000);
                let flushed = process.ask(process.handle.flush());
                let status = process.handle.status();
                let mark = broker.mark(&lane);
                assert_eq!((flushed, mark), (true, Some(Mark::at(broker.end(&lane)))), "{status:?}");
            }
        }
    }

    /// Whatever is left undone, the last process does.
    fn finish(&mut self) -> Process {
        for _ in 0..=self.planned {
            let setup = Setup { batch: 7, records: 13, bytes: 1 << 20, age_s: 60, routes: 9 };
            let mut last = Process::start(&self.watch, &self.clock, setup, true);
            let running = &mut last.running;
            let ended =
                last.runtime.block_on(async { tokio::time::timeout(Duration::from_mins(10), running).await });
            match ended {
                Ok(Ok(Ok(_))) => return last,
                // A fault that was still to come has ended it, or fenced its lane, which nobody assigns again.
                _ if self.may_end => {}
                ended => panic!("{ended:?}: {:?}", last.handle.status()),
            }
        }
        panic!("what was planned has long failed, and the last process still ends with an error");
    }

    fn check(&self) {
        let Watch { broker, store, lane, .. } = &self.watch;
        let wrong = self.watch.wrong();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let end = broker.end(lane).get();
        let commits = broker.commits(lane);
        let marks: Vec<_> = commits.iter().map(|commit| commit.mark().unwrap()).collect();
        // Segments lie end to end: a mark stays, or moves to the end of what is pinned there or stores nothing.
        for pair in marks.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            assert!(before.next <= after.next, "the mark goes back: {before:?}, {after:?}");
            if let Some(intent) = &before.intent {
                let stays = before.next == after.next && before.intent == after.intent;
                assert!(
                    stays || after.next == intent.range.end(),
                    "pinned, and cut elsewhere: {before:?}, {after:?}"
                );
            } else {
                let passed = before.next.get()..after.next.get();
                let rows = self.watch.offsets(passed, |kind| kind.is_row() || kind.is_letter());
                assert_eq!(rows, [] as [i64; 0], "passed without an intent: {before:?}, {after:?}");
            }
        }
        // Each row once, no row that is none, and none outside of what was pinned.
        let visible = store.offsets(lane);
        let rows: BTreeSet<_> = self.watch.offsets(0..end, Kind::is_row).into_iter().collect();
        assert!(visible.windows(2).all(|pair| pair[0] < pair[1]), "stored twice: {visible:?}");
        assert!(visible.iter().all(|offset| rows.contains(offset)), "stored, and no row: {visible:?}");
        let pins: Vec<_> = marks.iter().filter_map(|mark| Some(mark.intent.as_ref()?.range)).collect();
        for object in store.objects() {
            let inside =
                pins.iter().any(|pin| pin.start() <= object.range.start() && object.range.end() <= pin.end());
            assert!(inside, "{} is visible, and not in any of {pins:?}", object.key);
        }
        let letters = self.watch.letters.offsets(lane);
        let strange = letters.iter().find(|offset| !self.watch.kind(Offset::new(**offset)).is_letter());
        assert_eq!(strange, None, "a letter without a reason");
    }
}

impl StateMachineTest for World {
    type SystemUnderTest = Self;
    type Reference = Known;

    fn init_test(known: &Known) -> Self {
        let (watch, clock) = (Watch::new(), ManualClock::at_millis(1_700_000_000_000));
        let mut world =
            Self { watch, clock, gates: Vec::new(), processes: [None, None], planned: 0, may_end: false };
        world.produce(&known.log);
        world.processes[0] = Some(Process::start(&world.watch, &world.clock, known.first, false));
        Self::apply(world, known, Do::Assign { of: 0 })
    }

    fn apply(mut world: Self, _: &Known, step: Do) -> Self {
        let lane = world.watch.lane.clone();
        match step {
            Do::Produce(kinds) => world.produce(&kinds),
            Do::Start { of, setup, assign } => {
                let mut process = Process::start(&world.watch, &world.clock, setup, false);
                process.may_end = world.may_end;
                if assign {
                    process.member.assign([lane]);
                }
                world.processes[of] = Some(process);
            }
            Do::Run { of, ms } => {
                world.clock.advance(Duration::from_millis(ms));
                world.process(of).run(ms);
            }
            Do::Kill { of } => world.processes[of] = None,
            Do::Stop { of } => {
                let process = world.process(of);
                process.stopped = true;
                if let Some(stop) = process.stop.take() {
                    stop.send(()).ok();
                }
            }
            Do::Assign { of } => {
                let process = world.process(of);
                process.partition = Partition::Given;
                if !process.running.is_finished() {
                    process.member.assign([lane]);
                }
            }
            Do::Revoke { of, grace_ms } => {
                let process = world.process(of);
                process.partition = Partition::Taken;
                let _inside = process.runtime.enter();
                drop(process.member.revoke(vec![lane], Duration::from_millis(grace_ms)));
            }
            Do::Lose { of } => {
                let process = world.process(of);
                process.partition = Partition::Taken;
                process.member.lose([lane]);
            }
            Do::Evict { of } => {
                let process = world.process(of);
                process.partition = Partition::TakenSilently;
                process.member.evict([lane]);
            }
            Do::Pause { of } => {
                let process = world.process(of);
                assert!(process.ask(process.handle.pause()));
            }
            Do::Resume { of } => {
                let process = world.process(of);
                assert!(process.ask(process.handle.resume()));
            }
            Do::Flush { of } => world.flush(of),
            Do::Fail { of, step, how } => {
                let fault = world.fault(how);
                let process = world.process(of);
                process.may_end |= how.ends();
                process.faults.next(step, fault);
            }
            Do::FailCreate { how } => {
                let fault = world.fault(how);
                world.watch.store.faults().next(Step::Create, fault);
                world.fails_somewhere(how);
            }
            Do::FailCommit { how } => {
                let fault = world.fault(how);
                world.watch.broker.on_next_commit(&lane, fault);
                world.fails_somewhere(how);
            }
            Do::OpenGates => world.open_gates(),
            Do::Clock { seconds } => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { world.clock.step_back(by) } else { world.clock.advance(by) }
            }
        }
        for process in world.processes.iter_mut().flatten() {
            assert_eq!(process.ended_wrongly(), None);
        }
        world
    }

    fn check_invariants(world: &Self, _: &Known) {
        world.check();
    }

    fn teardown(mut world: Self, known: Known) {
        world.settle();
        world.check();
        world.processes = [None, None];
        let last = world.finish();
        world.check();
        let Watch { broker, store, lane, letters, .. } = &world.watch;
        let offsets = |which: fn(Kind) -> bool| {
            (0..).zip(&known.log).filter(move |(_, kind)| which(**kind)).map(|(offset, _)| offset)
        };
        assert_eq!(store.offsets(lane), offsets(Kind::is_row).collect::<Vec<i64>>());
        let letters: BTreeSet<_> = letters.offsets(lane).into_iter().collect();
        assert_eq!(letters, offsets(Kind::is_letter).collect::<BTreeSet<i64>>());
        if !known.log.is_empty() {
            assert_eq!(broker.mark(lane), Some(Mark::at(broker.end(lane))));
        }
        assert_eq!(last.handle.status().pending_intents, 0);
        let pools = [last.budget.disk(), last.budget.fill(), last.budget.publish()];
        assert_eq!((pools.map(aqueduct_core::Pool::used), last.disk.files()), ([0; 3], 0));
    }
}

impl World {
    /// A fault of the store or the coordinator may meet any process.
    fn fails_somewhere(&mut self, how: How) {
        self.planned += 1;
        self.may_end |= how.ends();
        for process in self.processes.iter_mut().flatten() {
            process.may_end |= how.ends();
        }
    }
}
