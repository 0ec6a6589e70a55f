//! Random faults, random crashes, many seeds: at every end each record is stored once.

use std::time::Duration;

use aqueduct_core::testkit::{Fault, Faults, Faulty, MemorySink, Step};
use aqueduct_core::{Class, MaxRecords};
use bytes::Bytes;
use proptest::test_runner::{Config, TestRunner};

use crate::stages::{all, many, never, pipeline_into};

/// One life of a process: what fails, and when it is killed.
#[derive(Clone, Debug)]
struct Life {
    rotate_at: u64,
    batch: usize,
    step: u8,
    call: u64,
    lost_answer: bool,
    roll_forward: bool,
    killed_after_ms: u64,
}

#[test]
fn any_sequence_of_crashes_and_faults_stores_every_record_once() {
    use proptest::prelude::*;
    let life = (1..80_u64, 1..60_usize, 0..6_u8, 1..6_u64, any::<bool>(), 0..12_u64).prop_map(
        |(rotate_at, batch, step, call, lost_answer, killed_after_ms)| Life {
            rotate_at,
            batch,
            step,
            call,
            lost_answer,
            roll_forward: false,
            killed_after_ms,
        },
    );
    let lives = (proptest::collection::vec(life, 1..6), any::<bool>());
    let mut runner = TestRunner::new(Config { cases: 96, ..Config::default() });
    runner
        .run(&lives, |(mut lives, roll_forward)| {
            for life in &mut lives {
                life.roll_forward = roll_forward;
            }
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let stored = runtime.block_on(live_through(&lives, roll_forward));
            prop_assert_eq!(stored, all(400));
            Ok(())
        })
        .unwrap();
}

async fn live_through(lives: &[Life], roll_forward: bool) -> Vec<i64> {
    let (broker, store, lane) = many(400);
    for life in lives {
        let faults = Faults::new();
        let fault =
            if life.lost_answer { Fault::FailAfterWrite(Class::RETRY) } else { Fault::Reject(Class::RETRY) };
        match life.step {
            0 => faults.on(Step::Begin, life.call, fault),
            1 => faults.on(Step::Spill, life.call, fault),
            2 => faults.on(Step::Stage, life.call, fault),
            3 => faults.on(Step::Publish, life.call, fault),
            4 => store.faults().next(Step::Create, fault),
            _ => {
                broker.on_next_commit(&lane, fault);
                &faults
            }
        };
        let sink = MemorySink::<Bytes>::bytes(&store);
        let sink = if life.roll_forward { sink.rolling_forward() } else { sink };
        let source = broker.source().batch_records(life.batch);
        let built =
            pipeline_into(source, Faulty::new(sink, &faults)).rotate(MaxRecords(life.rotate_at)).build();
        // A runtime of its own is the process: dropping it kills everything where it stands.
        let process =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let running = process.spawn(built.unwrap().run(never()));
        tokio::time::sleep(Duration::from_millis(life.killed_after_ms)).await;
        drop(running);
        // Until its source is dropped, the broker takes its member for alive.
        tokio::task::spawn_blocking(move || process.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    }
    let sink = MemorySink::<Bytes>::bytes(&store);
    let sink = if roll_forward { sink.rolling_forward() } else { sink };
    let last = pipeline_into(broker.source().until_end(), sink).rotate(MaxRecords(33)).build();
    last.unwrap().run(never()).await.unwrap();
    store.offsets(&lane)
}
