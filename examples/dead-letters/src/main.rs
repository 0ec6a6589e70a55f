//! Orders out of Kafka, the bad ones into dead letters, the letters through a corrected layout, and a check that each order is
//! where it belongs, once.
//!
//! ```text
//! cargo run                   everything embedded: broker, orders, sink
//! ```
//!
//! The part to copy is [`pipeline`], [`read_back`] and [`redrive`]. One hundredth of the orders is cut short, one has no customer, one is of
//! less than nothing: each stage meets what only it can see. A second topic is what a deploy gone wrong looks like.

mod orders;
mod till;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aqueduct::files::{DirectoryLetters, read_letters};
use aqueduct::prelude::*;
use aqueduct::{Batched, ErrorChain, LetterFilter, Redrive, RedriveReport, StoredLetter};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use orders::{BROKEN, Broker, Fault, ORDERS, RECORDS_MAX};
use till::Till;

/// Records that cannot be processed, kept and read back
#[derive(Debug, Parser)]
struct Args {
    /// How many orders to produce
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(10_000..=i64::from(RECORDS_MAX)))]
    records: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    match demo(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every order is where it belongs.
async fn demo(args: &Args) -> Result<bool> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = scratch.path().join("dead-letters");
    let broker = Broker::start()?;
    broker.produce(args.records).await?;
    println!("{} orders produced to {ORDERS} on an embedded broker, 3 of 100 bad", args.records);

    let till = Till::new().map_err(anyhow::Error::from_boxed)?;
    let run = pipeline(&broker.address(), ORDERS, scratch.path(), &directory, till.clone())?;
    let report = run.run(std::future::pending()).await.context("the pipeline stopped")?;
    let letters = read_back(&directory)?;
    let right = check(args.records, &till.orders(), &letters);
    println!("stored {}, letters {}", report.rows, report.dead_letters);
    for ((stage, reason), (count, example)) in by_reason(&letters) {
        let StoredLetter { record, detail, .. } = example;
        println!("{count:>6} {stage}: {reason}, such as {}@{}: {detail}", record.lane, record.offset);
    }

    let right = again(args.records, &till, &directory).await? && right;

    println!("as many to {BROKEN}, as XML");
    let run = pipeline(&broker.address(), BROKEN, scratch.path(), &directory, till)?;
    let Err(error) = run.run(std::future::pending()).await else {
        println!("nobody noticed");
        return Ok(false);
    };
    println!("{}", ErrorChain(&error));
    let sent = read_back(&directory)?.len() - letters.len();
    println!("letters sent of that: {sent}");
    Ok(right && sent == 0)
}

/// Bad orders into the directory, each with where it came from and why; when 100 of 1 000 in a row are bad, none.
fn pipeline(brokers: &str, topic: &str, spool: &Path, letters: &Path, till: Till) -> Result<Pipeline> {
    let source = KafkaSource::builder()
        .brokers(brokers)
        .group("till")
        .topics([topic])
        .start(StartAt::Earliest)
        .until_end()
        .build()?;
    // For a topic of letters: KafkaDeadLetters::builder().brokers(…).topic(…).build()?
    let letters = DirectoryDeadLetters::new(letters).with_pipeline("till");
    let pipeline = Pipeline::from(source)
        .convert(Json::new())
        .partition(ByField::new("customer.name")?)
        .sink(Batched::new(till))
        .on_poison(OnPoison::DeadLetter(Arc::new(letters)))
        .poison_breaker(PoisonBreaker::more_than(100, 1_000))
        .name("till")
        .spool_dir(spool)
        .build()?;
    Ok(pipeline)
}

/// The letters of a topic through the corrected layout, which has a place for orders without a customer.
async fn redrive(directory: &Path, till: Till) -> Result<RedriveReport> {
    let layout = ByField::new("customer.name")?.missing_as("nobody")?;
    let redrive = Redrive::new(Json::new(), layout, till).select(LetterFilter::all().topic(ORDERS));
    // From a topic: KafkaLetters::builder().brokers(…).topic(…).build()?; from a bucket: letters() of S3DeadLetters, into the
    // bucket of an S3 sink: its builder's build_repairs().
    redrive.run(&mut DirectoryLetters::new(directory)).await.context("letters cannot be driven again")
}

/// Drives the letters again, twice: whether what is corrected is stored now, once, and everything else still only a letter.
async fn again(records: u32, till: &Till, directory: &Path) -> Result<bool> {
    let first = redrive(directory, till.clone()).await?;
    println!("driven again: {first}");
    for ((stage, reason), still) in &first.still_poison {
        println!(
            "{:>6} {stage}: {reason}, such as {}@{}: {}",
            still.count, still.lane, still.offset, still.detail
        );
    }
    let second = redrive(directory, till.clone()).await?;
    println!("and once more: {second}");
    let now_good = |number: &u32| matches!(Fault::of(*number), None | Some(Fault::Anonymous));
    let expected: Vec<u64> = (0..records).filter(now_good).map(u64::from).collect();
    let corrected = (0..records).filter(|number| Fault::of(*number) == Some(Fault::Anonymous)).count() as u64;
    let right = till.orders() == expected
        && (first.repaired, first.before, second.repaired, second.before) == (corrected, 0, 0, corrected)
        && first.poisoned() + corrected == first.selected;
    println!("orders in the till {}, {}", till.orders().len(), if right { "each once" } else { "WRONG" });
    Ok(right)
}

/// Everything in the directory, each record once.
fn read_back(directory: &Path) -> Result<Vec<StoredLetter>> {
    read_letters(directory)?.collect::<Result<_, _>>().context("a letter cannot be read")
}

fn by_reason(letters: &[StoredLetter]) -> BTreeMap<(&str, &str), (u64, &StoredLetter)> {
    let mut groups = BTreeMap::new();
    for letter in letters {
        groups.entry((letter.stage.as_str(), letter.reason.as_str())).or_insert((0, letter)).0 += 1;
    }
    groups
}

/// Whether the good orders are stored and no others, and of the bad ones each has one letter, whole and with its reason.
fn check(records: u32, stored: &[u64], letters: &[StoredLetter]) -> bool {
    let good: Vec<u64> = (0..records).filter(|number| Fault::of(*number).is_none()).map(u64::from).collect();
    // Partition and offset of a number are what the producer made them: every fourth order is of the same partition.
    let expected: BTreeMap<(i32, i64), Fault> = (0..records)
        .filter_map(|number| Some((((number % 4).cast_signed(), i64::from(number / 4)), Fault::of(number)?)))
        .collect();
    let mut wrong = 0;
    for letter in letters {
        let place = (letter.record.lane.partition(), letter.record.offset.get());
        let fault = expected.get(&place).map(|fault| fault.letter());
        let whole = letter.record.value.as_ref().is_some_and(|value| value.starts_with(b"{\"order\":"));
        wrong += u64::from(fault != Some((letter.stage.as_str(), letter.reason.as_str())) || !whole);
    }
    let lost = good.len().abs_diff(stored.len()) + expected.len().abs_diff(letters.len());
    println!("orders lost {lost}, letters wrong {wrong}");
    lost == 0 && wrong == 0 && good == stored
}
