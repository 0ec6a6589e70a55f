//! Trying again where no lane does it: completeness, repairs.

use std::time::Duration;

use aqueduct_core::{Class, Classify as _, ErrorChain};

use crate::error::BigQueryError;

const ATTEMPTS: u32 = 8;
const FIRST: Duration = Duration::from_millis(100);
/// The longest delay, also of one that the service asks for.
const LONGEST: Duration = Duration::from_secs(20);

/// As [`ATTEMPTS`], where something that was made a moment ago may not have reached everybody: some minutes.
pub(crate) const PATIENT: u32 = 16;

/// Calls until it succeeds, fails for good, or has failed for about half a minute. Whoever asked runs the whole again.
pub(crate) async fn retried<R, F>(call: impl FnMut() -> F) -> Result<R, BigQueryError>
where
    F: Future<Output = Result<R, BigQueryError>>,
{
    retried_up_to(ATTEMPTS, call).await
}

/// The same with another number of attempts.
pub(crate) async fn retried_up_to<R, F>(
    attempts: u32,
    mut call: impl FnMut() -> F,
) -> Result<R, BigQueryError>
where
    F: Future<Output = Result<R, BigQueryError>>,
{
    let mut delay = FIRST;
    for _ in 1..attempts {
        let error = match call().await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let asked = match error.class() {
            Class::Retry { after } => after.unwrap_or_default(),
            Class::Unknown => Duration::ZERO,
            _ => return Err(error),
        };
        let wait = delay.max(asked).min(LONGEST);
        tracing::warn!(?wait, error = %ErrorChain(&error), "trying again");
        tokio::time::sleep(wait).await;
        delay = (delay * 2).min(LONGEST);
    }
    call().await
}
