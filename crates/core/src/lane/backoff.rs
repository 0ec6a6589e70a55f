//! Trying again, slower each time, for as long as it takes.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::context::LaneContext;
use crate::budget::Waiting;
use crate::error::{Class, ErrorChain, StageError};
use crate::observe::Metric;

/// Delays of one operation: exponential with jitter, reset by success (by dropping this).
///
/// While a lane waits here it takes in no records, its memory permits run out and its source slows down: that is how
/// a slow or failing target reaches the broker, instead of a give-up that loses records or a queue that grows.
#[derive(Debug)]
pub(super) struct Backoff<'a> {
    lane: &'a LaneContext,
    delays: ExponentialBackoff,
    unknown_left: u32,
    /// While it is the disk that is short, whoever can publish and give some back, should.
    waits_for_disk: Option<Waiting>,
}

impl<'a> Backoff<'a> {
    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);
    /// Tries of an error nobody has classified.
    const UNKNOWN_TRIES: u32 = 8;

    pub(super) fn new(lane: &'a LaneContext) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(Self::MIN)
            .with_max_delay(Self::MAX)
            .with_jitter()
            .without_max_times()
            .build();
        Self { lane, delays, unknown_left: Self::UNKNOWN_TRIES, waits_for_disk: None }
    }

    /// Waits before the next try, or gives the error back if there is none.
    pub(super) async fn wait(&mut self, error: StageError) -> Result<(), StageError> {
        let asked = match error.class() {
            Class::Retry { after } => after,
            Class::Unknown if self.unknown_left > 0 => {
                self.unknown_left -= 1;
                None
            }
            Class::Unknown => return Err(error.into_fatal()),
            Class::Fenced | Class::Fatal => return Err(error),
        };
        if error.lacks_disk() {
            self.waits_for_disk.get_or_insert_with(|| self.lane.budget.disk().wait());
        }
        let delay = at_least(self.delays.next().unwrap_or(Self::MAX), asked);
        let chain = ErrorChain(&error).to_string();
        tracing::warn!(lane = %self.lane.lane, ?delay, error = %chain, "trying again");
        Metric::Retries.add(&self.lane.scope, &[("stage", error.stage())], 1);
        self.lane.totals.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.lane.cell.update(|status| status.retrying = Some(chain));
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// The longest delay the other side may ask for: a store that names a year by mistake must not stop a lane for one.
const ASKED_MAX: Duration = Duration::from_mins(5);

/// Our own delay, or a longer one that the other side asked for.
fn at_least(own: Duration, asked: Option<Duration>) -> Duration {
    own.max(asked.unwrap_or_default().min(ASKED_MAX))
}

impl Drop for Backoff<'_> {
    fn drop(&mut self) {
        self.lane.cell.update(|status| status.retrying = None);
    }
}

/// Evaluates a fallible operation until it succeeds or fails for good.
macro_rules! persist {
    ($lane:expr, $operation:expr) => {{
        let mut backoff = None;
        loop {
            match $operation {
                Ok(value) => break Ok(value),
                Err(error) => {
                    let backoff = backoff.get_or_insert_with(|| $crate::lane::backoff::Backoff::new($lane));
                    if let Err(error) = backoff.wait(error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
pub(super) use persist;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_asks_for_is_waited_for_within_reason() {
        let (own, second) = (Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(at_least(own, None), own);
        assert_eq!(at_least(own, Some(Duration::ZERO)), own);
        assert_eq!(at_least(own, Some(ASKED_MAX)), ASKED_MAX);
        assert_eq!(at_least(own, Some(ASKED_MAX + second)), ASKED_MAX);
        assert_eq!(at_least(own, Some(Duration::MAX)), ASKED_MAX);
    }
}
