//! Cases without any failure: what goes in is there, once, in order, and accounted for.

use futures::future::join_all;

use super::bench::{Case, PASSED};
use super::script::{Script, batch_of};
use super::{Ran, SinkHarness};
use crate::batch::{Arenas, BatchBuilder};
use crate::fingerprint::Fingerprint;
use crate::sink::{CommitStyle, Sink};

/// The target is there and lets us in.
pub(super) async fn check_lets_us_in<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let process = case.process().await;
    if let Err(error) = process.sink.check().await {
        case.fail(format_args!("check: {}", crate::error::ErrorChain(&error)));
    }
    PASSED
}

/// Two processes of one configuration have the same layout, and the sink has a part in it.
pub(super) async fn fingerprint_is_stable_and_nonempty<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let of = async || {
        let mut parts = Fingerprint::new();
        case.harness.sink().await.fingerprint(&mut parts);
        parts
    };
    let (one, two) = (of().await, of().await);
    case.check(one != Fingerprint::new(), "the sink puts nothing into the fingerprint");
    let differing = one.differing_parts(&two);
    case.check(differing.is_empty(), format_args!("two instances differ in {differing:?}"));
    PASSED
}

pub(super) async fn single_record<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 1, 1);
    case.write(&case.process().await, &script).await;
    case.expect(&script.lane, &script.rows, "after publish").await;
    PASSED
}

/// Offsets without records lie before, between and behind those that are there.
pub(super) async fn gaps_are_fine<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let lane = case.lane(0);
    let process = case.process().await;
    let first = Script::at(&lane, [3, 4, 9, 1_000, 1_001, 70_000], 2, 80_000, 2);
    let second = Script::at(&lane, [1 << 40, (1 << 40) + 7], 80_000, (1 << 40) + 9, 2);
    case.write(&process, &first).await;
    case.write(&process, &second).await;
    case.expect(&lane, &[first.rows, second.rows].concat(), "after publish").await;
    PASSED
}

/// Rows of interleaved routes, over many batches and two segments, keep their order in every object.
pub(super) async fn offsets_ascend<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let lane = case.lane(0);
    let process = case.process().await;
    let first = Script { batch: 7, ..Script::dense(&lane, 400, 3) };
    let second = Script { batch: 64, ..Script::at(&lane, 400..600, 400, 600, 3) };
    case.write(&process, &first).await;
    case.write(&process, &second).await;
    case.expect(&lane, &[first.rows, second.rows].concat(), "after publish").await;
    PASSED
}

pub(super) async fn many_routes<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let routes = i64::try_from(case.capabilities.routes_max).unwrap_or(i64::MAX).min(150);
    let script = Script { batch: 60, ..Script::dense(&case.lane(0), routes * 2, routes) };
    case.write(&case.process().await, &script).await;
    case.expect(&script.lane, &script.rows, &format!("after publish of {routes} routes")).await;
    PASSED
}

/// A row that cannot be stored costs exactly itself, whichever call refuses it, also if it was the first of its route.
pub(super) async fn append_poison_keeps_neighbours<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let lane = case.lane(0);
    let script = Script { batch: 4, ..Script::dense(&lane, 16, 3) };
    // The first of all rows, the first of a route, one in the middle of a batch and the last.
    let bad = [0, 2, 9, 15];
    let process = case.process().await;
    let mut segment = case.open(&process, &script).await;
    let mut early = Vec::new();
    for batch in script.batches() {
        case.open_routes(&mut segment, &script, &batch).await;
        for record in batch.iter() {
            if !bad.contains(&record.offset().get()) {
                let value = case.harness.value(&record);
                if let Err(poison) = segment.append(&script, &record, value) {
                    case.fail(format_args!(
                        "append refused offset {}, a neighbour: {poison}",
                        record.offset()
                    ));
                }
                continue;
            }
            let Some(value) = case.harness.poison(&record) else {
                return Ran::No("the harness gives no poison");
            };
            if segment.append(&script, &record, value).is_err() {
                early.push(record.offset());
            }
        }
        case.spill(&mut segment).await;
    }
    case.stage(&process, &mut segment, &script).await;
    case.publish(&mut segment).await;
    let mut refused = [early, segment.refused].concat();
    refused.sort();
    refused.dedup();
    let refused: Vec<_> = refused.iter().map(|offset| offset.get()).collect();
    case.check(refused == bad, format_args!("offsets {bad:?} are poison, refused were {refused:?}"));
    let good: Vec<_> = script.rows.into_iter().filter(|row| !bad.contains(&row.offset.get())).collect();
    case.expect(&lane, &good, "with the poison left out").await;
    PASSED
}

/// After `spill` nothing holds the batch: its memory can be used for the next one.
pub(super) async fn spill_returns_memory<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script { batch: 40, ..Script::dense(&case.lane(0), 40, 4) };
    let mut segment = case.open(&case.process().await, &script).await;
    let arenas = Arenas::new();
    let batch = batch_of(&script.rows, BatchBuilder::reusing(&arenas, script.lane.clone(), 1 << 12));
    case.append_all(&mut segment, &script, &batch).await;
    case.spill(&mut segment).await;
    drop(batch);
    // The memory comes back only if nobody else holds a slice of it.
    case.check(arenas.idle() == 1, "after spill the writer still holds a slice of the batch");
    segment.writer.abandon().await;
    PASSED
}

pub(super) async fn parallel_lanes_do_not_interfere<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let process = case.process().await;
    let scripts: Vec<_> =
        (0..6).map(|partition| Script::dense(&case.lane(partition), 40 + i64::from(partition), 2)).collect();
    // The same offsets in every lane, all segments open at the same time.
    let mut cuts = join_all(scripts.iter().map(|script| case.cut(&process, script))).await;
    // One of them first: it must not take the others along.
    let Some(((first, _), others)) = cuts.split_first_mut() else {
        return PASSED;
    };
    case.publish(first).await;
    if case.capabilities.commit == CommitStyle::Intent {
        for script in scripts.iter().skip(1) {
            case.expect(&script.lane, &[], "after another lane has published").await;
        }
    }
    join_all(others.iter_mut().map(|(segment, _)| case.publish(segment))).await;
    for script in &scripts {
        case.expect(&script.lane, &script.rows, "after six lanes have published").await;
    }
    PASSED
}

/// What the writer counts and reports is what is there.
pub(super) async fn stats_match_reality<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script { batch: 8, ..Script::dense(&case.lane(0), 64, 3) };
    let process = case.process().await;
    let mut segment = case.open(&process, &script).await;
    let mut encoded = segment.writer.encoded_bytes();
    for batch in script.batches() {
        case.open_routes(&mut segment, &script, &batch).await;
        for record in batch.iter() {
            let value = case.harness.value(&record);
            if let Err(poison) = segment.append(&script, &record, value) {
                case.fail(format_args!("append refused offset {}: {poison}", record.offset()));
            }
            let now = segment.writer.encoded_bytes();
            case.check(
                now > encoded,
                format_args!("encoded_bytes went from {encoded} to {now} over an append"),
            );
            encoded = now;
        }
        case.spill(&mut segment).await;
        let now = segment.writer.encoded_bytes();
        case.check(now >= encoded, format_args!("encoded_bytes went from {encoded} to {now} over a spill"));
    }
    case.stage(&process, &mut segment, &script).await;
    let published = case.publish(&mut segment).await;
    let stored = case.stored(&script.lane).await;
    if published.objects.is_empty() && case.capabilities.commit == CommitStyle::AfterDurable {
        return PASSED;
    }
    let rows: u64 = published.objects.iter().map(|object| object.rows).sum();
    case.check(rows == 64, format_args!("64 rows were published, the objects report {rows}"));
    let starts: Vec<_> = published.objects.iter().map(|object| object.range.start()).collect();
    case.check(
        starts.is_sorted(),
        format_args!("the objects are not in order of their first records: {starts:?}"),
    );
    for object in &published.objects {
        let key = &object.key;
        case.check(object.bytes > 0, format_args!("{key} is reported with 0 bytes"));
        if object.rows == 0 {
            continue;
        }
        let offsets: Vec<_> =
            stored.iter().filter(|(object, _)| object == key).map(|(_, row)| row.offset).collect();
        case.check(
            offsets.len() as u64 == object.rows,
            format_args!("{key} is reported with {} rows and has {}", object.rows, offsets.len()),
        );
        let span = offsets.first().copied().zip(offsets.last().map(|last| last.next()));
        let reported = (object.range.start(), object.range.end());
        case.check(
            span == Some(reported),
            format_args!("{key} is reported as {} and spans {span:?}", object.range),
        );
    }
    PASSED
}

/// A segment that got no rows is given up by the lane.
pub(super) async fn unused_writer_leaves_nothing<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 4, 1);
    let process = case.process().await;
    let mut segment = case.open(&process, &script).await;
    case.spill(&mut segment).await;
    segment.writer.abandon().await;
    drop(segment);
    case.expect(&script.lane, &[], "after an unused writer").await;
    case.write(&process, &script).await;
    case.expect(&script.lane, &script.rows, "after the segment was begun again").await;
    PASSED
}
