//! An abort at every place of the failpoint table.
//!
//! The table is the only list there is. How to come to a point is not written down: every [`Way`] is gone once without an abort,
//! and a point is tried on each way that came by. One that no way comes to fails the run by its name, so a new point cannot be
//! left out, and neither can one that has become unreachable.

mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct::Failpoint;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;
use xtask::load::audit::{self, Audit, audit, scan};
use xtask::load::{Spec, Spread};

use self::life::{Ended, Life, Way};
use crate::integration::data::poison::{Bad, TIMESTAMP, produce_bad, read_letters};
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};

/// Trials at a time.
const AT_ONCE: usize = 4;
/// How often the last hit is looked for: by the clock, segments differ from run to run.
const ATTEMPTS: usize = 5;

/// In every partition one record that becomes a letter.
const BAD: &[Bad] = &[Bad {
    name: "no json",
    value: || Some(b"GET / HTTP/1.1".to_vec()),
    timestamp: TIMESTAMP,
    stage: "convert",
    reason: "malformed",
}];

/// The topics that all trials read, each by a group of its own into a bucket of its own.
struct Loads {
    /// Objects that fit into one request, and letters.
    small: Case,
    /// Objects of several parts.
    large: Case,
    letters: String,
    site_s3: xtask::services::Endpoint,
}

impl Loads {
    async fn produce(site: &Site) -> Result<Self> {
        let small = Spec { seed: site.seed, records: 6_000, spread: Spread::AllOpen, ..Spec::default() };
        let large =
            Spec { records: 30_000, partitions: NonZeroU32::MIN, hours: NonZeroU32::MIN, ..small.clone() };
        let (small, large) =
            (Case::of(site, "failpoints", small).await?, Case::of(site, "failpoints-large", large).await?);
        let letters = format!("{}-letters", small.topic);
        small.topics().recreate(&letters, 1, &[]).await?;
        small.produce_range(0..3_000).await?;
        produce_bad(&small, BAD).await?;
        small.produce_range(3_000..6_000).await?;
        large.produce().await?;
        Ok(Self { small, large, letters, site_s3: site.servers.s3.endpoint().clone() })
    }

    fn case(&self, way: Way) -> &Case {
        if way == Way::Parts { &self.large } else { &self.small }
    }

    /// Goes one way, and ends the process at that hit of `failpoint`.
    async fn live(&self, name: String, way: Way, at: Option<(Failpoint, u64)>) -> Result<Lived> {
        let case = self.case(way);
        let bucket = self.site_s3.bucket(&name);
        bucket.create().await?;
        let life = Life { case, name: &name, letters: &self.letters };
        let ended = life.go(way, at).await.with_context(|| format!("{name}: {way:?}, {at:?}"))?;
        let audit = if matches!(ended, Ended::Died { .. }) {
            let (brokers, topic) = (case.brokers.clone(), case.topic.clone());
            let scanned = spawn_blocking(move || scan(&brokers, &topic)).await??;
            let options = audit::Options {
                topic: case.topic.clone(),
                prefix: String::new(),
                require_metadata: true,
                concurrency: 4,
            };
            audit(&bucket, &options, scanned.ledger).await?
        } else {
            Audit::default()
        };
        if audit.is_clean() {
            bucket.delete().await?;
        }
        Ok(Lived { name, ended, audit })
    }

    /// Whether each process that was to, has sent each letter; twice after a crash is fine.
    async fn check_letters(&self, pipelines: &[String]) -> Result<()> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for letter in read_letters(&self.small, &self.letters).await? {
            let pipeline = letter.header("__connect.errors.connector.name")?.to_owned();
            found.entry(pipeline).or_default().insert(letter.header("aqueduct.partition")?.to_owned());
        }
        let partitions = self.small.partitions() as usize;
        for pipeline in pipelines {
            let letters = found.get(pipeline).map_or(0, BTreeSet::len);
            ensure!(letters == partitions, "{pipeline} has sent {letters} of {partitions} letters");
        }
        Ok(())
    }
}

struct Lived {
    name: String,
    ended: Ended,
    audit: Audit,
}

/// A point, a way that comes to it, and which hit is the end.
#[derive(Clone, Copy, Debug)]
struct Trial {
    number: usize,
    point: Failpoint,
    way: Way,
    hit: u64,
}

/// What became of a trial.
struct Tried {
    trial: Trial,
    name: String,
    audit: Audit,
    recovery: Duration,
}

impl Trial {
    /// Repeated with the hits there really were, if the last one was not met.
    async fn run(mut self, loads: &Loads) -> Result<Tried> {
        for attempt in 0..ATTEMPTS {
            let name = format!("failpoint-{}-{attempt}", self.number);
            let Lived { name, ended, audit } =
                loads.live(name, self.way, Some((self.point, self.hit))).await?;
            match ended {
                Ended::Died { recovery } => return Ok(Tried { trial: self, name, audit, recovery }),
                Ended::Survived(hits) => {
                    let counted = hits.get(self.point.name()).copied().unwrap_or(0);
                    self.hit = counted.min(self.hit.saturating_sub(1)).max(1);
                }
            }
        }
        anyhow::bail!("{} was counted on the way {:?} and not met again", self.point.name(), self.way)
    }
}

/// Every point of the table on every way that comes to it, at its first hit and at its last; in a slice once.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let loads = Loads::produce(site).await?;
    let counted: Vec<(Way, BTreeMap<String, u64>)> = futures::stream::iter(Way::ALL)
        .map(async |way| {
            let name = format!("failpoint-count-{}", way as u8);
            match loads.live(name, way, None).await?.ended {
                Ended::Survived(hits) => Ok((way, hits)),
                Ended::Died { .. } => anyhow::bail!("{way:?} has died without a failpoint"),
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let trials = plan(&counted, site.ci, site.seed)?;
    let tried: Vec<Tried> = futures::stream::iter(trials)
        .map(|trial| trial.run(&loads))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;

    let small = tried.iter().filter(|tried| tried.trial.way != Way::Parts);
    loads.check_letters(&small.map(|tried| tried.name.clone()).collect::<Vec<_>>()).await?;
    let others = site.servers.s3.unfinished_uploads()?;
    let mut outcome = Outcome::default();
    for point in Failpoint::ALL {
        let of_point: Vec<&Tried> = tried.iter().filter(|tried| tried.trial.point == *point).collect();
        let audit = of_point.iter().fold(Audit::default(), |sum, one| sum.plus(one.audit.clone()));
        let met: Vec<String> =
            of_point.iter().map(|one| format!("{:?} at hit {}", one.trial.way, one.trial.hit)).collect();
        let detail = format!("{} {}", point.meaning(), met.join(", "));
        let fault = format!("abort at {}", point.name());
        let recovery = of_point.iter().map(|one| one.recovery).max();
        outcome = outcome.and(Proof { recovery, ..Proof::of(fault, of_point.len() as u64, audit, detail) });
    }
    if outcome.is_clean() && !site.keep {
        ensure!(others == 0, "{others} uploads are left behind on the server's disk");
        loads.small.topics().delete(&loads.letters).await?;
        loads.small.remove().await?;
        loads.large.remove().await?;
    }
    Ok(outcome)
}

/// The trials of all points.
///
/// # Errors
/// Points that no way comes to, by name.
fn plan(counted: &[(Way, BTreeMap<String, u64>)], slice: bool, seed: u64) -> Result<Vec<Trial>> {
    let (mut trials, mut never) = (Vec::new(), Vec::new());
    for (index, point) in (seed..).zip(Failpoint::ALL.iter().copied()) {
        let ways = counted.iter().filter_map(|(way, hits)| Some((*way, *hits.get(point.name())?)));
        let ways: Vec<(Way, u64)> = ways.collect();
        if ways.is_empty() {
            never.push(point.name());
        }
        if slice {
            let once = ways.first().map(|(way, last)| (*way, if index % 2 == 0 { 1 } else { *last }));
            trials.extend(once.map(|(way, hit)| Trial { number: trials.len(), point, way, hit }));
            continue;
        }
        // A point of the ordinary way is tried there; the others add nothing but time.
        let special = ways.iter().all(|(way, _)| !matches!(way, Way::Single | Way::Parts));
        for (way, last) in
            ways.into_iter().filter(|(way, _)| special || matches!(way, Way::Single | Way::Parts))
        {
            for hit in BTreeSet::from([1, last]) {
                trials.push(Trial { number: trials.len(), point, way, hit });
            }
        }
    }
    ensure!(never.is_empty(), "failpoints that nothing comes to: {}", never.join(", "));
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(of: impl Fn(Failpoint) -> u64) -> BTreeMap<String, u64> {
        let hits = Failpoint::ALL.iter().map(|point| (point.name().to_owned(), of(*point)));
        hits.filter(|(_, hits)| *hits > 0).collect()
    }

    #[test]
    fn every_point_is_tried_at_its_first_hit_and_at_its_last() {
        let counted = [(Way::Single, hits(|_| 3)), (Way::Heir, hits(|_| 5))];
        let trials = plan(&counted, false, 7).unwrap();
        assert_eq!(trials.len(), 2 * Failpoint::ALL.len());
        assert!(trials.iter().all(|trial| trial.way == Way::Single && [1, 3].contains(&trial.hit)));
        assert_eq!(plan(&counted, true, 7).unwrap().len(), Failpoint::ALL.len());
        let once = plan(&[(Way::Frozen, hits(|_| 1))], false, 7).unwrap();
        assert_eq!(once.len(), Failpoint::ALL.len(), "one hit is the first and the last");
    }

    #[test]
    fn a_point_that_nothing_comes_to_fails_the_run_by_name() {
        let counted = [(Way::Single, hits(|point| u64::from(point != Failpoint::UploadCompleted)))];
        let error = plan(&counted, true, 7).unwrap_err().to_string();
        assert!(error.ends_with(": upload.completed"), "{error}");
    }
}
