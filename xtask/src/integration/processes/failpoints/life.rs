//! The life of a process that is to die at a failpoint, and of the one that comes after it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct::Failpoint;

use crate::integration::marks::{self, Place};
use crate::integration::member::Member;
use crate::integration::scenario::Case;
use crate::worker::{Compression, Layout, Letters, OnPoison, Options, Rotation};

/// In what way a process comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It reads a topic to its end and publishes objects of one request each.
    Single,
    /// It publishes objects of several parts.
    Parts,
    /// It takes over from a process that died with its cuts written down.
    Heir,
    /// It gives partitions up to a second member.
    Leaving,
    /// It is taken for dead and wakes up when a second member has its partitions.
    Frozen,
}

impl Way {
    pub(super) const ALL: [Self; 5] = [Self::Single, Self::Parts, Self::Heir, Self::Leaving, Self::Frozen];
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// At the failpoint; so long after that everything was published and committed by another process.
    Died { recovery: Duration },
    /// It never came to that hit, but to so many of each point.
    Survived(BTreeMap<String, u64>),
}

/// One trial's group, bucket and spool, all of that name.
pub(super) struct Life<'a> {
    pub(super) case: &'a Case,
    pub(super) name: &'a str,
    pub(super) letters: &'a str,
}

impl Life<'_> {
    /// Goes `way` and ends at that hit of a point, if one is given and it comes that far; then the rest is done without.
    pub(super) async fn go(&self, way: Way, at: Option<(Failpoint, u64)>) -> Result<Ended> {
        let point = at.map_or("", |(point, _)| point.name());
        let mut options = self.options(way);
        // A torn write is prepared for, and so counted, only where the point is armed.
        let counting = || format!("{}=off", Failpoint::SpillTorn.name());
        options.host.failpoints = Some(at.map_or_else(counting, |(point, hit)| abort_at(point, hit)));
        if way == Way::Heir {
            let cut = Failpoint::IntentCommitted;
            let mut former = options.clone();
            former.host.failpoints = Some(abort_at(cut, 1));
            let died = self.case.start(&former)?.aborted_at(cut.name(), LIMIT).await?;
            ensure!(died, "nothing was cut");
        }
        if matches!(way, Way::Leaving | Way::Frozen) {
            return self.with_a_second(way, options, point).await;
        }
        let mut worker = self.case.start(&options)?;
        if !worker.aborted_at(point, LIMIT).await? {
            return Ok(Ended::Survived(worker.seen().hits));
        }
        let restarted = Instant::now();
        options.host.failpoints = None;
        self.case.start(&options)?.finish(LIMIT).await?;
        Ok(Ended::Died { recovery: restarted.elapsed() })
    }

    async fn with_a_second(&self, way: Way, options: Options, point: &str) -> Result<Ended> {
        let lanes = self.case.partitions() as usize;
        let mut worker = self.case.start(&options)?;
        let mut second = options.clone();
        second.host.failpoints = None;
        second.spool_dir.push("second");
        if way == Way::Frozen {
            worker.until("its partitions", LIMIT, |seen| seen.lanes.len() == lanes).await?;
            worker.freeze()?;
        } else {
            // It may die before it has any.
            worker.changed(|seen| seen.lanes.len() == lanes).await;
        }
        let mut heir = self.case.start(&second)?;
        if way == Way::Frozen {
            heir.until("all partitions", LIMIT, |seen| seen.lanes.len() == lanes).await?;
            worker.thaw()?;
            tokio::time::timeout(LIMIT, worker.changed(|seen| seen.assignments > 1)).await?;
        } else {
            heir.until("a partition", LIMIT, |seen| !seen.lanes.is_empty()).await?;
            // What it gave up is with the other now; the rest of its life is its shutdown.
        }
        worker.dismiss().await?;
        let died = worker.aborted_at(point, LIMIT).await?;
        let since = Instant::now();
        self.drained(&heir).await?;
        let recovery = since.elapsed();
        heir.terminate().await?;
        Ok(if died { Ended::Died { recovery } } else { Ended::Survived(worker.seen().hits) })
    }

    /// Waits until the second member has published and committed everything.
    async fn drained(&self, member: &Member) -> Result<()> {
        let (deadline, case) = (Instant::now() + LIMIT, self.case);
        loop {
            let places = marks::read(&case.brokers, self.name, &case.topic, case.partitions()).await?;
            if places.iter().all(Place::is_drained) {
                return Ok(());
            }
            ensure!(
                member.is_alive() && Instant::now() < deadline,
                "not everything is committed: {:?}",
                member.seen()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn options(&self, way: Way) -> Options {
        let mut options = self.case.options(self.name);
        self.name.clone_into(&mut options.group);
        self.name.clone_into(&mut options.bucket);
        options.spool_dir.push(self.name);
        for (name, ms) in [("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "500")] {
            options.properties.insert(name.to_owned(), ms.to_owned());
        }
        options.until_end = !matches!(way, Way::Leaving | Way::Frozen);
        // By the wall clock, and no two runs alike.
        options.rotation = vec![Rotation::AgeMs(1)];
        options.on_poison = OnPoison::DeadLetter(Letters::Topic(self.letters.to_owned()));
        if way == Way::Parts {
            options.rotation = vec![Rotation::AgeMs(1_500)];
            options.compression = Compression::None;
            options.layout = vec![Layout::Partition];
            options.format = crate::worker::Format::Bytes;
            options.s3.part_bytes = Some(5 << 20);
            options.s3.abort_stale_uploads = true;
        }
        options
    }
}

fn abort_at(point: Failpoint, hit: u64) -> String {
    match hit {
        0 | 1 => format!("{}=return(abort)", point.name()),
        hit => format!("{}={}*off->return(abort)", point.name(), hit - 1),
    }
}

/// The most a life may take.
const LIMIT: Duration = Duration::from_mins(1);
