//! Formats with columns and the schemas behind them: schemas that change, and a registry that is not there.

pub(crate) mod change;
mod judge;
mod orders;
pub(crate) mod produce;
pub(crate) mod registry;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tokio::task::spawn_blocking;
use xtask::readers::{Contents, Readers, Request};
use xtask::services::Cache;

use self::orders::{Order, Versions};
use self::produce::Place;
use super::scenario::Case;

/// The orders that a case's topic holds: the key is the number, the value names the version. What names none is left out.
async fn in_topic(case: &Case, versions: &Versions) -> Result<BTreeMap<Place, Order>> {
    let stands = produce::scan(&case.brokers, &case.topic, case.partitions()).await?;
    let mut orders = BTreeMap::new();
    for (place, record) in stands {
        let value = record.value.as_deref().unwrap_or_default();
        let Some(version) = versions.named_by(value) else { continue };
        let number = std::str::from_utf8(&record.key)?.parse().context("a key that is no number")?;
        orders.insert(place, Order { number, version });
    }
    Ok(orders)
}

/// What readers that are not ours find in files.
pub(crate) async fn read_all(requests: Vec<Request>) -> Result<Vec<Result<Contents, String>>> {
    let cache = Cache::from_env()?;
    spawn_blocking(move || Readers::install(&cache)?.read(&requests)).await?
}
