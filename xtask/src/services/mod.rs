//! The servers that integration runs and benchmarks need: a real broker and a real S3 server, on loopback, without containers; and
//! an emulator of BigQuery where it is asked for.
//!
//! [`Running`] is these together. A run owns them and takes them down when it ends, also by an early return; the command
//! `cargo xtask services start` lets go of them and writes them down, so that `stop` and later commands find them.

mod bigquery;
mod bucket;
mod certificates;
mod cluster;
mod daemon;
mod install;
mod kafka;
mod registry;
mod s3;
mod secured;

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::OptionFuture;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::readers::Readers;

pub use self::bigquery::BigQuery;
pub use self::bucket::{Bucket, Listed, Upload};
pub use self::certificates::Certificates;
pub use self::cluster::Cluster;
pub use self::install::{APICURIO_VERSION, Cache, KAFKA_VERSION, MINIO_VERSION};
pub use self::kafka::{Kafka, Topics};
pub use self::registry::Registry;
pub use self::s3::{Endpoint, S3};
pub use self::secured::{Listeners, PASSWORD, USER};

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers keep data, logs and configuration in `aqueduct-services` below this directory.
    pub data: PathBuf,
    /// The broker's heap in MiB.
    pub kafka_heap_mib: u32,
    /// Whether there is an emulator of BigQuery as well.
    pub bigquery: bool,
}

impl Options {
    /// Servers below `data`, with a heap that serves a load of several 100 k records a second.
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), kafka_heap_mib: 1024, bigquery: false }
    }

    /// Whether there is an emulator of BigQuery as well; not by default.
    #[must_use]
    pub fn with_bigquery(self, bigquery: bool) -> Self {
        Self { bigquery, ..self }
    }
}

/// Servers that are up. Dropping it kills them; their data stays with whoever owns the directory.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::unsafe_derive_deserialize,
    reason = "the lint takes what `.await` expands to for unsafe code of ours"
)]
pub struct Running {
    /// The broker.
    pub kafka: Kafka,
    /// The S3 server.
    pub s3: S3,
    /// The emulator of BigQuery, if it was asked for.
    #[serde(default)]
    pub bigquery: Option<BigQuery>,
    home: PathBuf,
}

impl Running {
    /// Starts them on free ports and waits until they serve. Programs that are missing are fetched first, which can take
    /// minutes and is told through `tracing`.
    pub async fn start(cache: &Cache, options: &Options) -> Result<Self> {
        let home = claim(&options.data)?;
        let (kafka_home, s3_home) = (home.join("kafka"), home.join("s3"));
        let (kafka, s3, bigquery) = tokio::join!(
            Kafka::launch(cache, &kafka_home, options.kafka_heap_mib),
            S3::launch(cache, &s3_home),
            OptionFuture::from(options.bigquery.then(|| BigQuery::launch(cache, &home))),
        );
        Ok(Self { kafka: kafka?, s3: s3?, bigquery: bigquery.transpose()?, home })
    }

    /// Shuts them down in an orderly way.
    pub async fn stop(&mut self) -> Result<()> {
        let bigquery = OptionFuture::from(self.bigquery.as_mut().map(BigQuery::stop));
        let (kafka, s3, bigquery) = tokio::join!(self.kafka.stop(), self.s3.stop(), bigquery);
        kafka?;
        s3?;
        bigquery.transpose()?;
        Ok(())
    }

    /// Starts whichever is down again, on its old port, with its data if it keeps any.
    pub async fn restart(&mut self) -> Result<()> {
        let bigquery = OptionFuture::from(self.bigquery.as_mut().map(BigQuery::start));
        tokio::try_join!(self.kafka.start(), self.s3.start(), async { bigquery.await.transpose() })?;
        Ok(())
    }

    fn is_any_alive(&self) -> bool {
        let bigquery = self.bigquery.as_ref().is_some_and(BigQuery::is_alive);
        self.kafka.is_alive() || self.s3.is_alive() || bigquery
    }

    /// Removes data, logs and configuration of servers that have been stopped.
    pub fn wipe(&self) -> Result<()> {
        let home = self.home.display();
        if self.is_any_alive() {
            bail!("{home} is in use: stop first");
        }
        // The directory is named by a file that a hand may have edited; only one of our own is removed.
        if !self.home.join(MARKER).is_file() {
            bail!("{home} holds no {MARKER}: it is not ours to remove");
        }
        fs::remove_dir_all(&self.home).with_context(|| format!("cannot remove {home}"))
    }

    /// Lets go of them: they keep running, and [`Running::find`] finds them.
    pub fn detach(mut self, cache: &Cache) -> Result<()> {
        self.write_down(cache)?;
        self.kafka.detach();
        self.s3.detach();
        if let Some(bigquery) = &mut self.bigquery {
            bigquery.detach();
        }
        Ok(())
    }

    /// The servers that were last [let go](Self::detach), whether they still run or not; none if there are none.
    pub fn find(cache: &Cache) -> Result<Option<Self>> {
        let path = state_file(cache)?;
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let state = serde_json::from_slice(&text);
        let remedy = || {
            format!("{} is not a state of this version: end its pids by hand and remove it", path.display())
        };
        state.map(Some).with_context(remedy)
    }

    /// Where they keep their files.
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn write_down(&self, cache: &Cache) -> Result<()> {
        let path = state_file(cache)?;
        // Written aside and moved, so that a reader never sees half of it; for the owner alone, it holds a secret.
        let part = path.with_extension("json.part");
        let file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&part);
        let file = file.with_context(|| format!("cannot write {}", part.display()))?;
        serde_json::to_writer_pretty(file, self)?;
        fs::rename(&part, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// `services start`: brings up the detached servers, or whichever of them are down, and returns them; with `bigquery`, an emulator
/// as well. Servers that were stopped begin again on their data, on other ports; without such servers and without `data`, it is
/// kept in the cache.
pub async fn start(
    cache: &Cache,
    data: Option<PathBuf>,
    kafka_heap_mib: u32,
    bigquery: bool,
) -> Result<Running> {
    let _lock = cache.lock("services.lock")?;
    let of_readers = cache.clone();
    spawn_blocking(move || Readers::install(&of_readers)).await??;
    let running = match Running::find(cache)? {
        Some(mut running) if running.is_any_alive() => {
            if bigquery && running.bigquery.is_none() {
                running.bigquery = Some(BigQuery::launch(cache, &running.home).await?);
            }
            running.restart().await?;
            running
        }
        stopped => {
            let earlier = stopped.and_then(|running| running.home.parent().map(Path::to_owned));
            if let (Some(data), Some(earlier)) = (&data, &earlier)
                && data.canonicalize().ok().as_ref() != Some(earlier)
            {
                tracing::warn!("data of the servers before is left in {}", earlier.display());
            }
            let data = data.or(earlier).map_or_else(|| cache.dir().map(Path::to_owned), Ok)?;
            Running::start(cache, &Options { data, kafka_heap_mib, bigquery }).await?
        }
    };
    running.detach(cache)?;
    Running::find(cache)?.context("the state just written is gone")
}

/// `services stop`: shuts the detached pair down; with `wipe`, removes its data too. None if nothing was started.
pub async fn stop(cache: &Cache, wipe: bool) -> Result<Option<Running>> {
    let _lock = cache.lock("services.lock")?;
    let Some(mut running) = Running::find(cache)? else {
        return Ok(None);
    };
    running.stop().await?;
    if wipe {
        running.wipe()?;
        let path = state_file(cache)?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    } else {
        running.write_down(cache)?;
    }
    Ok(Some(running))
}

const MARKER: &str = ".aqueduct-services";

fn state_file(cache: &Cache) -> Result<PathBuf> {
    Ok(cache.dir()?.join("services.json"))
}

/// Makes a directory of our own below `data`, or takes one of ours; a stranger's directory of that name is an error.
fn claim(data: &Path) -> Result<PathBuf> {
    install::create_dir(data)?;
    let data = data.canonicalize().with_context(|| format!("cannot resolve {}", data.display()))?;
    let home = data.join("aqueduct-services");
    let marker = home.join(MARKER);
    let foreign = home.is_dir() && !marker.is_file() && fs::read_dir(&home)?.next().is_some();
    ensure!(!foreign, "{} exists and is not ours: choose another directory with --data", home.display());
    for part in [home.join("kafka"), home.join("s3")] {
        install::create_dir(&part)?;
    }
    install::write(
        &marker,
        "Data of the servers of `cargo xtask`; removed by `cargo xtask services stop --wipe`.\n",
    )?;
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_directory_is_not_claimed_and_ours_is_claimed_again() {
        let data = tempfile::tempdir().unwrap();
        let home = claim(data.path()).unwrap();
        assert_eq!(claim(data.path()).unwrap(), home);
        fs::remove_file(home.join(MARKER)).unwrap();
        let error = claim(data.path()).unwrap_err().to_string();
        assert!(error.contains("not ours"), "{error}");
    }
}
