//! What other connectors were seen to lose, to store twice or to die of, when the S3 server has trouble.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use xtask::load::audit::Audit;

use super::proxy::{Fault, Operation, Rule};
use super::trial::{LIMIT, Shape, Stored, Topics, Trial, filled};
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::Site;

const BOTH: [Stored; 2] = [Stored::GzippedJson, Stored::Bytes];

/// The second object of a segment cannot be completed three times, while the first one is visible. A sink that then reads again
/// from where the second one began stores a part of the first one twice.
pub(crate) async fn second_complete(site: &mut Site) -> Result<Outcome> {
    let topics = Box::pin(Topics::new(site, ["sc-small", "sc-large", "sc-medium"])).await?;
    let (mut audit, mut worst) = (Audit::default(), None);
    for stored in BOTH {
        let mut trial = Trial::new(site, &topics, &format!("{stored:?}"), stored, Shape::Multipart);
        // Every failure is one of the lane.
        trial.sink().attempts = Some(1);
        let slow_down = Fault::Answer(503, "SlowDown");
        let rule = Rule { after: 1, ..Rule::first(3, Operation::Complete, slow_down) };
        let ended = trial.goes_on(vec![rule]).await?;
        ensure!(ended.summary.retries >= 3, "the lane has not met it: {:?}", ended.summary);
        audit = audit.plus(ended.audit);
        worst = worst.max(ended.recovery);
    }
    let detail = "the first object was visible each time, and was not sent again";
    finish(site, topics, "503 three times for the second object's Complete", 2, audit, worst, detail).await
}

/// A completion is applied and its answer lost; asked again, the server knows no such upload. A sink that takes that for an error
/// stops until somebody starts it again.
pub(crate) async fn lost_complete_answer(site: &mut Site) -> Result<Outcome> {
    let topics = Box::pin(Topics::new(site, ["lc-small", "lc-large", "lc-medium"])).await?;
    let (mut audit, mut worst) = (Audit::default(), None);
    for stored in BOTH {
        let trial = Trial::new(site, &topics, &format!("{stored:?}"), stored, Shape::Multipart);
        let ended = trial.goes_on(vec![Rule::first(1, Operation::Complete, Fault::Lost)]).await?;
        ensure!(
            ended.summary.retries == 0,
            "a look settles it, and the lane tried again: {:?}",
            ended.summary
        );
        audit = audit.plus(ended.audit);
        worst = worst.max(ended.recovery);
    }
    let detail = "settled by one look at the object, without a retry of the lane";
    finish(site, topics, "Complete applied, its answer lost", 2, audit, worst, detail).await
}

/// A process is stopped in the middle of an upload in parts. Its successor publishes the object and aborts that upload; then the
/// process wakes up, is told that its upload is gone, and has to live with it.
pub(crate) async fn aborted_upload(site: &mut Site) -> Result<Outcome> {
    let topics = Box::pin(Topics::new(site, ["au-small", "au-large", "au-medium"])).await?;
    let (mut audit, mut worst) = (Audit::default(), None);
    for stored in BOTH {
        let trial = Trial::new(site, &topics, &format!("{stored:?}"), stored, Shape::Multipart);
        let held = Rule { after: 1, ..Rule::first(1, Operation::Part, Fault::Stall) };
        let before = trial.proxy(vec![held]).await?;
        let mut sleeper = trial.start(&before)?;
        let halfway = |seen: &super::proxy::Seen| seen.injected > 0 && seen.answered(Operation::Part) > 0;
        before.until("in the middle of an upload", LIMIT, halfway).await?;
        sleeper.freeze()?;
        let left = trial.case.bucket.uploads(&trial.prefix()).await?;
        ensure!(!left.is_empty(), "there is no upload to be left behind");

        let behind = trial.proxy(Vec::new()).await?;
        let summary = trial.successor(&behind)?.finish(LIMIT).await?;
        ensure!(summary.recovered > 0, "there was no cut to recover: {summary:?}");
        let uploads = trial.case.bucket.uploads(&trial.prefix()).await?;
        ensure!(uploads.is_empty(), "{uploads:?} are still there");

        sleeper.thaw()?;
        let awake = Instant::now();
        sleeper.finish(LIMIT).await?;
        worst = worst.max(Some(awake.elapsed()));
        audit = audit.plus(trial.audit().await?);
    }
    let detail = "the upload was gone when its process woke up; it ended well and left nothing behind";
    finish(site, topics, "stopped in an upload that its successor aborts", 2, audit, worst, detail).await
}

async fn finish(
    site: &Site,
    topics: Topics,
    fault: &str,
    runs: u64,
    audit: Audit,
    recovery: Option<Duration>,
    detail: &str,
) -> Result<Outcome> {
    if audit.is_clean() {
        topics.remove(site).await?;
    }
    let proof = Proof { fault: fault.to_owned(), runs, audit, recovery, detail: detail.to_owned() };
    Ok(Outcome::default().and(proof))
}

/// A process dies when some of a segment's objects are visible. Its successor recognises each of them: two requests an object,
/// one that is refused and one that looks, whatever their number, and no waiting in between. The requests are what is judged; the time
/// is only shown.
pub(crate) async fn recovery_cost(site: &mut Site) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (name, visible) in [("recovery-few", 3_u64), ("recovery-many", 300)] {
        // Some more objects than those that become visible before the crash.
        let hours = u32::try_from(visible + visible / 10 + 2)?;
        let case = filled(site, name, u64::from(hours) * 20, hours).await?;
        let trial = Trial::of_case(site, &case, "cost");
        let proxy = trial
            .proxy(vec![Rule { after: visible, times: None, ..Rule::first(0, Operation::Put, Fault::Stall) }])
            .await?;
        let worker = trial.start(&proxy)?;
        let crash = |seen: &super::proxy::Seen| seen.answered(Operation::Put) == visible && seen.injected > 0;
        proxy.until("so many objects were visible", LIMIT, crash).await?;
        worker.kill().await?;
        let before = case.bucket.objects(&trial.prefix()).await?.len() as u64;
        ensure!(before == visible, "{before} objects are visible, and {visible} should be");

        let proxy = trial.proxy(Vec::new()).await?;
        let mut worker = trial.start(&proxy)?;
        worker.until("its partition", LIMIT, |seen| !seen.lanes.is_empty()).await?;
        let assigned = Instant::now();
        worker.until("the segment", LIMIT, |seen| seen.published > 0).await?;
        let took = assigned.elapsed();
        let summary = worker.finish(LIMIT).await?;
        let (seen, objects) = (proxy.seen(), case.bucket.objects(&trial.prefix()).await?.len() as u64);
        let (puts, looks) = (seen.requests(Operation::Put), seen.requests(Operation::Head));
        ensure!(summary.recovered == 1 && summary.objects == objects, "{summary:?} of {objects} objects");
        ensure!(
            puts == objects && looks == visible,
            "{puts} PUTs and {looks} looks for {objects} objects of which {visible} were there"
        );
        ensure!(summary.retries == 0, "it waited and tried again: {summary:?}");
        let audit = trial.audit().await?;
        if audit.is_clean() && !site.keep {
            case.remove().await?;
        }
        let detail = format!(
            "{visible} of {objects} objects were there: {puts} PUTs, {looks} looks, no retry; {} ms after the assignment",
            took.as_millis()
        );
        let fault = format!("SIGKILL with {visible} objects of a segment visible");
        outcome = outcome.and(Proof { fault, runs: 1, audit, recovery: Some(took), detail });
    }
    Ok(outcome)
}
