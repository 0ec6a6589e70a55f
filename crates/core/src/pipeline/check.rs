//! Asking targets at the start whether they can be written to.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Class, ErrorChain, StageError};

/// How long the target may be unreachable at the start before that is an error; with the start of the process and the
/// last attempt it stays below ten seconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);

/// Asks until the answer is final or the time is up: a target that is starting beside us gets a moment, a wrong name
/// is reported at once.
pub(super) async fn persist<'a, F>(what: &'static str, check: impl Fn() -> F) -> Result<(), StageError>
where
    F: Future<Output = Result<(), StageError>> + Send + 'a,
{
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let mut last = None;
    loop {
        let attempt = tokio::time::timeout_at(deadline, check()).await.unwrap_or_else(|_| {
            // What an earlier attempt said is worth more than that the time is over.
            let timed_out = || StageError::retry(what, std::io::Error::from(std::io::ErrorKind::TimedOut));
            Err(last.take().unwrap_or_else(timed_out))
        });
        match attempt {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.class(), Class::Retry { .. }) && Instant::now() < deadline => {
                tracing::warn!(error = %ErrorChain(&error), "not ready yet");
                last = Some(error);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_falls_silent_is_reported_with_what_it_said_last() {
        let attempts = AtomicU32::new(0);
        let check = || async {
            if attempts.fetch_add(1, Ordering::Relaxed) > 0 {
                return std::future::pending().await;
            }
            Err(StageError::retry("probe", "no room at store-7"))
        };
        let started = Instant::now();
        let error = persist("sink check", check).await.unwrap_err();
        assert_eq!(error.stage(), "probe");
        assert!(ErrorChain(&error).to_string().contains("store-7"));
        assert!(started.elapsed() <= CHECK_TIMEOUT);
    }
}
