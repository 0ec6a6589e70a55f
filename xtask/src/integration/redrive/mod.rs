//! Letters driven again by processes that are killed, two at a time, beside the pipeline that goes on sending letters.

mod judge;
mod tickets;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::spawn_blocking;

use self::judge::{Found, Judge, Told};
use self::tickets::{Fault, Ticket, Tickets};
use super::data::poison::read_letters_blocking;
use super::formats::produce::{self, Place};
use super::formats::read_all;
use super::gate::Gate;
use super::member::Member;
use super::objects::download_if;
use super::processes::kill::ASSIGNMENT;
use super::proof::{Outcome, Proof};
use super::scenario::{Case, Site};
use crate::worker::{Compression, Format, Letters, OnPoison, Options, Rotation};

/// How long each upload of a re-drive takes: the time between its claim and its last object in which it can be killed.
const UPLOAD: Duration = Duration::from_millis(25);
/// The most a re-drive that nobody kills may take.
const REDRIVE: Duration = Duration::from_mins(1);

/// A seventh of the records is bad, by every stage. The pipeline goes on, and is killed; two processes drive its letters again,
/// and are killed; then both to their end, and once more.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let site = &*site;
    let (objects, topic) = tokio::try_join!(
        one(site, "letters-objects", Letters::Prefix("letters".to_owned())),
        one(site, "letters-topic", Letters::Topic("letters-topic-letters".to_owned()))
    )?;
    Ok(Outcome::default().and(objects).and(topic))
}

async fn one(site: &Site, name: &'static str, letters: Letters) -> Result<Proof> {
    let case = Case::new(site, name, 1).await?;
    if let Letters::Topic(topic) = &letters {
        case.topics().recreate(topic, 1, &[]).await?;
    }
    let mut options = case.options("live");
    options.format = Format::Tickets;
    options.compression = Compression::None;
    options.rotation = vec![Rotation::AgeMs(700)];
    options.on_poison = OnPoison::DeadLetter(letters.clone());
    options.properties.insert("group.instance.id".to_owned(), name.to_owned());
    options.properties.insert("session.timeout.ms".to_owned(), "30000".to_owned());
    let flow = Tickets::flow(&case.brokers, &case.topic, case.partitions(), site.pick(600, 400));
    let mut live = case.start(&options)?;
    live.until("its first segments", ASSIGNMENT, |seen| seen.published >= 4).await?;

    let again =
        |name: &str| Options { name: name.to_owned(), redrive: Some(letters.clone()), ..options.clone() };
    let (kills, live_kills) = (site.pick(25, 6), site.pick(10, 3));
    let (one, two, live) = tokio::try_join!(
        harried(site, &case, again("one"), 1, kills),
        harried(site, &case, again("two"), 2, kills),
        replaced(site, &case, &options, live, live_kills)
    )?;
    let produced = flow.stop().await?;
    case.drained(&[&live], Duration::from_mins(1)).await?;
    live.terminate().await?;

    // All letters are there now: both to their end, at once. Then there is nothing left to do.
    let (mut last, mut other) = (case.start(&again("one"))?, case.start(&again("two"))?);
    tokio::try_join!(last.redriven(REDRIVE), other.redriven(REDRIVE))?;
    let tickets = in_topic(&case).await?;
    ensure!(tickets.len() as u64 == produced, "{produced} were produced, and {} stand there", tickets.len());
    let of = |is: fn(Option<Fault>) -> bool| tickets.values().filter(|it| is(it.fault())).count() as u64;
    let (bad, torn) = (of(|it| it.is_some()), of(|it| it == Some(Fault::Torn)));
    let nothing = case.start(&again("again"))?.redriven(REDRIVE).await?;
    ensure!(
        (nothing.repaired, nothing.finished, nothing.under_way) == (0, 0, 0)
            && (nothing.selected, nothing.before, nothing.poisoned) == (bad, bad - torn, torn),
        "a second re-drive of {bad} letters, {torn} of them beyond repair, says {nothing:?}"
    );

    let judge = Judge { prefix: &options.prefix, topic: &case.topic, tickets: &tickets };
    let repeats = judge.letters(&stored_letters(&case, &letters).await?)?;
    let dir = tempfile::tempdir()?;
    let is_data = |key: &str| !key.contains("/_repairs/");
    let objects = download_if(&case.bucket, &options.prefix, dir.path(), is_data).await?;
    let contents = read_all(Judge::requests(&objects)).await?;
    let Found { audit, live, repaired, .. } = judge.objects(&objects, &contents)?;
    if audit.is_clean() {
        if let Letters::Topic(topic) = &letters {
            case.topics().delete(topic).await?;
        }
        case.remove().await?;
    }
    let middle = one.in_the_middle + two.in_the_middle;
    let killed = one.killed + two.killed;
    ensure!(4 * middle >= killed, "only {middle} of {killed} kills left a repair that was begun");
    let detail = format!(
        "{live} live rows, {repaired} from letters, {torn} beyond repair, {repeats} letters sent again; {killed} re-drives killed, \
         {middle} with a repair under way; {} came to their end, {} met repairs of letters that came later; the pipeline killed \
         {live_kills} times",
        one.ended + two.ended,
        one.too_early + two.too_early,
    );
    let place = match letters {
        Letters::Prefix(_) => "objects",
        Letters::Topic(_) => "a topic",
    };
    let fault = format!("SIGKILL of two re-drives and the pipeline, letters in {place}");
    Ok(Proof::of(fault, killed + live_kills, audit, detail))
}

/// What became of one re-drive after the other.
#[derive(Debug, Default)]
struct Harried {
    killed: u64,
    /// Those that left a claim without its end.
    in_the_middle: u64,
    /// They had nothing to do, or were faster.
    ended: u64,
    /// They met a repair that another had begun with letters that came later than they looked, and said so.
    too_early: u64,
}

/// Starts re-drives until so many are killed, each after some of its uploads.
async fn harried(site: &Site, case: &Case, mut options: Options, salt: u64, kills: u64) -> Result<Harried> {
    let mut random = StdRng::seed_from_u64(site.seed ^ salt);
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(UPLOAD);
    options.endpoint = gate.endpoint().clone();
    let mut harried = Harried::default();
    while harried.killed < kills {
        let before = gate.state().passed;
        let mut member = case.start(&options)?;
        let uploads = random.random_range(2..20);
        while member.is_alive() && gate.state().passed < before + uploads {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
        if member.kill_if_alive().await? {
            harried.killed += 1;
            harried.in_the_middle += u64::from(unfinished(case, &options.prefix).await? > 0);
            continue;
        }
        ensure!(harried.ended + harried.too_early < 40 * kills, "too few are killed: {harried:?}");
        match member.redriven(REDRIVE).await {
            Ok(_) => harried.ended += 1,
            Err(error) if error.to_string().contains("of its letters were not found") => {
                harried.too_early += 1;
            }
            Err(error) => bail!(error),
        }
        // For letters to come.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(harried)
}

/// Claims of repairs without the word that they are done.
async fn unfinished(case: &Case, prefix: &str) -> Result<usize> {
    let log = case.bucket.objects(&format!("{prefix}/{}/_repairs/", case.topic)).await?;
    let ending = |end: &str| log.iter().filter(|it| it.key.ends_with(end)).count();
    Ok(ending(".json").saturating_sub(ending(".done")))
}

/// Kills the pipeline so many times as soon as it has written down a cut, and replaces it; answers with the last one.
async fn replaced(
    site: &Site,
    case: &Case,
    options: &Options,
    mut live: Member,
    kills: u64,
) -> Result<Member> {
    let mut random = StdRng::seed_from_u64(site.seed ^ 3);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..1_500))).await;
        let cuts = live.seen().cuts;
        live.until("a cut", ASSIGNMENT, |seen| seen.cuts > cuts).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
        live.kill().await?;
        live = case.start(options)?;
        live.until("a segment of the replacement", ASSIGNMENT, |seen| seen.published > 0).await?;
    }
    Ok(live)
}

/// The tickets that a case's topic holds.
async fn in_topic(case: &Case) -> Result<BTreeMap<Place, Ticket>> {
    let stands = produce::scan(&case.brokers, &case.topic, case.partitions()).await?;
    let ticket = |key: &[u8]| Ticket::of_key(key).context("a key of no ticket");
    stands.into_iter().map(|(place, record)| Ok((place, ticket(&record.key)?))).collect()
}

/// All letters, read without our own readers.
async fn stored_letters(case: &Case, letters: &Letters) -> Result<Vec<Told>> {
    match letters {
        Letters::Topic(topic) => {
            let (brokers, topic) = (case.brokers.clone(), topic.clone());
            let letters = spawn_blocking(move || read_letters_blocking(&brokers, &topic)).await??;
            let told = |letter: &super::data::poison::Letter| {
                let header = |name: &str| letter.header(name);
                let place = (header("aqueduct.partition")?.parse()?, header("aqueduct.offset")?.parse()?);
                Ok((place, header("aqueduct.stage")?.to_owned(), header("aqueduct.reason")?.to_owned()))
            };
            letters.iter().map(told).collect()
        }
        Letters::Prefix(prefix) => {
            let mut letters = Vec::new();
            for listed in case.bucket.objects(&format!("{prefix}/")).await? {
                let (body, _) = case.bucket.read(&listed.key).await?;
                for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let line: serde_json::Value = serde_json::from_slice(line)?;
                    let number =
                        |name: &str| line.get(name).and_then(serde_json::Value::as_i64).context("no letter");
                    let text =
                        |name: &str| line.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
                    let place = (i32::try_from(number("partition")?)?, number("offset")?);
                    letters.push((
                        place,
                        text("stage").context("no stage")?,
                        text("reason").context("no reason")?,
                    ));
                }
            }
            Ok(letters)
        }
    }
}
