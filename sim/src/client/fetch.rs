//! Reading: records into batches, and positions that are not there any more.

use aqueduct_core::{BatchBuilder, Offset, SourceEvent, StageError};

use super::{BATCH_RECORDS, Ended, Poller, name};
use crate::process::EPOCH_MS;

impl Poller {
    pub(super) fn fetch(&mut self) -> Option<Ended> {
        let state = self.process.world.state();
        let (mut problem, mut out) = (None, Vec::new());
        for (partition, lane) in &mut self.lanes {
            let (Some(position), Some(log)) = (lane.position, state.logs.get(partition)) else { continue };
            if lane.leaving || self.paused.contains(partition) || self.events.capacity() < 4 + out.len() {
                continue;
            }
            if position < log.start {
                let committed = state.group.committed.get(partition);
                if committed.is_some_and(|(committed, _)| *committed > position) {
                    return Some(Ended::Lost("others have gone on where we were"));
                }
                problem = Some(format!(
                    "offset {position} of {partition} is out of range, the log starts at {}",
                    log.start
                ));
                continue;
            }
            let records: Vec<_> = log.entries.range(position..).take(BATCH_RECORDS).collect();
            let bytes: usize =
                records.iter().map(|it| it.1.value.as_ref().map_or(0, bytes::Bytes::len)).sum();
            if records.is_empty() {
                if lane.reached.is_none_or(|reached| reached < log.end) {
                    (lane.position, lane.reached) = (Some(log.end), Some(log.end));
                    out.push(SourceEvent::Reached { lane: name(*partition), next: Offset::new(log.end) });
                }
                continue;
            }
            let Some(permit) = self.memory.try_acquire(bytes as u64) else { continue };
            let mut batch = BatchBuilder::new(name(*partition), bytes);
            for (offset, entry) in records {
                let time = aqueduct_core::Timestamp::Create(EPOCH_MS + entry.time_ms);
                batch.push(Offset::new(*offset), time, None, entry.value.as_deref(), std::iter::empty());
                lane.position = Some(offset + 1);
            }
            out.push(SourceEvent::Batch(batch.build(permit)));
        }
        drop(state);
        self.outbox.extend(out.into_iter().map(Ok));
        if let Some(problem) = problem {
            self.fail(StageError::fatal("fetch", problem));
        }
        None
    }

    pub(super) fn fail(&mut self, error: StageError) {
        if !self.failed {
            self.failed = true;
            self.outbox.push_back(Err(error));
        }
    }
}
