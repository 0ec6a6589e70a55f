//! Trying again where no lane does it: completeness, repairs.

use std::time::Duration;

use aqueduct_core::{Class, Classify as _, ErrorChain};

use crate::error::BigQueryError;

const ATTEMPTS: u32 = 8;
const FIRST: Duration = Duration::from_millis(100);
/// The longest delay, also of one that the service asks for.
const LONGEST: Duration = Duration::from_secs(20);

/// Calls until it succeeds, fails for good, or has failed for about half a minute. Whoever asked runs the whole again.
pub(crate) async fn retried<R>(
    mut call: impl AsyncFnMut() -> Result<R, BigQueryError>,
) -> Result<R, BigQueryError> {
    let mut delay = FIRST;
    for _ in 1..ATTEMPTS {
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
        delay *= 2;
    }
    call().await
}
