//! Schemas that change record by record, while those who store them are killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::judge::{Found, Judge};
use super::orders::{Version, Versions};
use super::produce::{Orders, Place};
use super::{in_topic, read_all};
use crate::integration::gate::Gate;
use crate::integration::member::{Member, Segment};
use crate::integration::objects::download;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::{Format, Layout, Options, Rotation, Sharing};

/// How long each upload takes: the time between the cut and the commit in which a process can be killed.
const UPLOAD: Duration = Duration::from_millis(25);
/// How long a replacement may take to publish something.
const PUBLISHING: Duration = Duration::from_secs(40);

/// Producers alternate between two versions of a schema, and later between three, record by record. Two groups store them as
/// Parquet, by city: one a file for each version, one all of them as the newest. Each has two members, of which one is killed at
/// random and replaced, again and again.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let registry = site.registry().await?.url();
    let site = &*site;
    let case = Case::new(site, "schemas", 1).await?;
    let versions = Versions::register(&registry, &case.topic, 3).await?;
    let rate = site.pick(1_200, 700);
    let flow = Orders::flow(&case.brokers, &case.topic, case.partitions(), rate, versions.clone());
    let stormed = tokio::try_join!(
        Group::of(site, &case, &registry, Sharing::None).storm(site, &case, &flow),
        Group::of(site, &case, &registry, Sharing::Backward).storm(site, &case, &flow)
    );
    let (apart, together) = stormed?;
    let produced = flow.stop().await?;
    let orders = in_topic(&case, &versions).await?;
    ensure!(
        orders.len() as u64 == produced,
        "{produced} orders were produced and {} stand there",
        orders.len()
    );
    let changes = changes(orders.iter().map(|(place, order)| (*place, order.version)));
    let mut outcome = Outcome::default();
    for group in [apart, together] {
        let Stormed { group, members, told, kills, met, _gate } = group;
        let marked = group.options.group.as_str();
        case.drained_of(marked, &members.iter().collect::<Vec<_>>(), Duration::from_mins(1)).await?;
        let mut segments = told;
        for member in members {
            segments.extend(member.terminate_told().await?.segments);
        }
        let dir = tempfile::tempdir()?;
        let objects = download(&case.bucket, &group.options.prefix, dir.path()).await?;
        let contents = read_all(Judge::requests(&objects)).await?;
        let judge = Judge {
            prefix: &group.options.prefix,
            topic: &case.topic,
            sharing: group.sharing,
            orders: &orders,
            segments: &segments,
        };
        let Found { audit, values, segments: cut, most, .. } = judge.judge(&objects, &contents)?;
        let detail = format!(
            "{kills} kills, {met} with a pending intent; {changes} changes of schema between neighbours, {} objects of {cut} \
             segments, at most {most} a path, version and segment; {values} values compared",
            audit.objects
        );
        outcome = outcome.and(Proof::of(group.fault(), kills, audit, detail));
    }
    if outcome.is_clean() {
        case.remove().await?;
    }
    Ok(outcome)
}

/// How often a record has another version than the one before it in its partition.
fn changes(versions: impl Iterator<Item = (Place, Version)>) -> u64 {
    let (mut count, mut before) = (0, None);
    for ((partition, _), version) in versions {
        count += u64::from(before.is_some_and(|(of, before)| of == partition && before != version));
        before = Some((partition, version));
    }
    count
}

/// The members that store all of the topic in one way.
struct Group {
    sharing: Sharing,
    options: Options,
}

/// What is left of a group when its kills are over.
struct Stormed {
    group: Group,
    members: Vec<Member>,
    /// Their way to the S3 server.
    _gate: Gate,
    /// Segments that killed members have told of.
    told: Vec<Segment>,
    kills: u64,
    met: u64,
}

impl Group {
    fn of(site: &Site, case: &Case, registry: &str, sharing: Sharing) -> Self {
        let name = match sharing {
            Sharing::None => "apart",
            Sharing::Backward => "together",
        };
        let mut options = case.options(name);
        options.group = format!("{}-{name}", case.group());
        name.clone_into(&mut options.prefix);
        options.spool_dir.push(name);
        options.format = Format::Orders(sharing);
        options.compression = crate::worker::Compression::None;
        options.layout = vec![Layout::Field("city".to_owned())];
        options.rotation = vec![Rotation::AgeMs(site.pick(1_500, 2_000))];
        options.registry = Some(registry.to_owned());
        // Replaced under its name, it has its partitions back at once.
        options.properties.insert("session.timeout.ms".to_owned(), "30000".to_owned());
        Self { sharing, options }
    }

    fn fault(&self) -> &'static str {
        match self.sharing {
            Sharing::None => "SIGKILL while schemas change, a file each",
            Sharing::Backward => "SIGKILL while schemas change, shown as the newest",
        }
    }

    /// Kills one member after the other, two of three times as soon as it has written down a cut.
    async fn storm(self, site: &Site, case: &Case, flow: &Orders) -> Result<Stormed> {
        let kills = site.pick(40, 10);
        let mut random = StdRng::seed_from_u64(site.seed ^ u64::from(self.sharing == Sharing::None));
        let gate = Gate::open(site.servers.s3.endpoint()).await?;
        gate.delay(UPLOAD);
        let seat = |name: &str| {
            let mut options = self.options.clone();
            options.name = format!("{}-{name}", options.name);
            options.endpoint = gate.endpoint().clone();
            options.spool_dir.push(name);
            options.properties.insert("group.instance.id".to_owned(), options.name.clone());
            options
        };
        let seats = [seat("one"), seat("two")];
        let mut members = seats.iter().map(|options| case.start(options)).collect::<Result<Vec<_>>>()?;
        for member in &mut members {
            member.until("its first segment", PUBLISHING, |seen| seen.published > 0).await?;
        }
        let (mut told, mut met) = (Vec::new(), 0);
        for kill in 0..kills {
            if kill == kills / 2 {
                flow.newest(Version(3));
            }
            let index = random.random_range(0..members.len());
            let mut member = members.swap_remove(index);
            let is_its = |seat: &&Options| member.name().ends_with(&seat.name);
            let options = seats.iter().find(is_its).context("a member without a seat")?;
            if kill % 3 == 2 {
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
            } else {
                let cuts = member.seen().cuts;
                member.until("a cut", PUBLISHING, |seen| seen.cuts > cuts).await?;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..80))).await;
            }
            told.extend(member.kill_told().await?.segments);
            let left = case.marks_of(&options.group).await?;
            met += u64::from(left.iter().any(|place| place.intent.is_some()));
            members.push(case.start(options)?);
        }
        // What holds the last ones up is no fault of theirs.
        gate.delay(Duration::ZERO);
        for member in &mut members {
            member.until("a segment after the last kill", PUBLISHING, |seen| seen.published > 0).await?;
        }
        Ok(Stormed { group: self, members, _gate: gate, told, kills, met })
    }
}
