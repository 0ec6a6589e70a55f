//! The conformance suite for sinks.

use std::fmt;
use std::time::Duration;

use bench::{Case, Directory, topic};

use crate::record::Record;
use crate::sink::{CommitStyle, Sink, SinkCapabilities};

pub use row::{StoredRow, SuiteRow};

mod bench;
mod cancelling;
mod looking;
mod publishing;
mod recovering;
mod row;
mod script;
mod storing;

/// What the author of a [`Sink`] tells the suite: how to make one, how to make its values, and how to look into its
/// target without it.
///
/// # Contract
/// - All sinks of one harness write to the same target with the same configuration: they are processes of one pipeline.
/// - [`stored`](Self::stored) reads the target *by other means* than the sink under test: what only its own reader can
///   read may be written wrongly.
/// - The suite makes topics of its own (`suite-…`), a new one for every case and every run, so a target need not be
///   empty.
pub trait SinkHarness: Send + Sync + 'static {
    /// What the sink takes.
    type Value: Send + 'static;
    /// The sink.
    type Sink: Sink<Self::Value>;

    /// A new instance, as a process that starts would make it.
    fn sink(&self) -> impl Future<Output = Self::Sink> + Send;

    /// The value of a record, as a converter would make it. The record's value is [`SuiteRow::to_json`]. Where the
    /// sink takes bytes, give slices of the batch ([`Record::value_bytes`]): the suite then sees whether they are let go.
    fn value(&self, record: &Record<'_>) -> Self::Value;

    /// A value that the sink has to refuse, early or late; `None` if it refuses nothing, which leaves the case out.
    fn poison(&self, _record: &Record<'_>) -> Option<Self::Value> {
        None
    }

    /// Every row that anybody can see in the target now, object by object, in the order they are stored in. A target
    /// without objects gives the rows of each partition in offset order and any constant as the object's name.
    fn stored(&self) -> impl Future<Output = Vec<StoredRow>> + Send;
}

/// Runs the conformance suite: does this sink keep the contract of [`Sink`], so that pipelines into it neither lose
/// nor duplicate?
///
/// The suite plays the lane: it fills segments, stages and publishes them, and lets processes die at every await in
/// between, with other processes taking over from the intent. Which cases run depends on the sink's
/// [capabilities](SinkCapabilities); the answer lists them, and says why the others do not.
///
/// ```
/// use aqueduct_core::Record;
/// use aqueduct_core::testkit::{MemorySink, MemoryStore, SinkHarness, StoredRow, sink_suite};
/// use bytes::Bytes;
///
/// struct Harness(MemoryStore);
///
/// impl SinkHarness for Harness {
///     type Value = Bytes;
///     type Sink = MemorySink<Bytes>;
///
///     async fn sink(&self) -> Self::Sink {
///         MemorySink::bytes(&self.0)
///     }
///
///     fn value(&self, record: &Record<'_>) -> Bytes {
///         record.value_bytes().unwrap_or_default()
///     }
///
///     async fn stored(&self) -> Vec<StoredRow> {
///         let mut stored = Vec::new();
///         for object in self.0.objects() {
///             stored.extend(object.rows.iter().map(|row| StoredRow::read(&object.key, &row.value)));
///         }
///         stored
///     }
/// }
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let report = sink_suite(Harness(MemoryStore::new())).await;
/// assert!(report.ran.len() > 15, "{report}");
/// # });
/// ```
///
/// Run it on a multi-thread runtime whose time is not paused.
///
/// # Panics
/// If a case fails, with its name, what was done, what was expected and what was found. This is a test helper.
pub async fn sink_suite<H: SinkHarness>(harness: H) -> SuiteReport {
    let directory = Directory::create();
    let capabilities = harness.sink().await.capabilities();
    let mut report = SuiteReport::default();
    macro_rules! run {
        ($($module:ident::{$($name:ident),* $(,)?} if $needs:expr;)*) => { $( $(
            let name = stringify!($name);
            match $needs {
                Some(reason) => report.left_out.push((name, reason)),
                None => {
                    let case = Case::new(&harness, &directory, name, topic(name), capabilities.clone());
                    let ended = tokio::time::timeout(CASE_TIME_MAX, Box::pin($module::$name(&case))).await;
                    match ended {
                        Ok(Ran::Yes) => report.ran.push(name),
                        Ok(Ran::No(reason)) => report.left_out.push((name, reason)),
                        Err(_) => case.fail(format_args!("it did not end within {CASE_TIME_MAX:?}")),
                    }
                }
            }
        )* )* };
    }
    run! {
        storing::{
            check_lets_us_in, fingerprint_is_stable_and_nonempty, single_record, gaps_are_fine, offsets_ascend,
            many_routes, append_poison_keeps_neighbours, spill_returns_memory,
        } if always();
        publishing::{publish_is_invisible_before_call} if with_intents(&capabilities);
        storing::{
            parallel_lanes_do_not_interfere, stats_match_reality, unused_writer_leaves_nothing,
        } if always();
        publishing::{publish_twice_is_once, next_segment_fills_while_one_publishes, abandon_is_idempotent} if always();
        publishing::{abandon_leaves_nothing_visible} if with_intents(&capabilities);
        recovering::{redo_loses_nothing} if without_intents(&capabilities);
        recovering::{
            stage_then_drop_then_recover, publish_by_second_process_from_intent, publish_after_lost_response,
            already_published_is_recognised, two_processes_publish_at_once,
        } if with_intents(&capabilities);
        publishing::{stage_twice_is_once} if with_intents(&capabilities);
        recovering::{second_cut_never_duplicates} if claims(&capabilities);
        cancelling::{cancel_at_every_await_of_spill, cancel_at_every_await_of_stage} if always();
        cancelling::{cancel_at_every_await_of_publish} if with_intents(&capabilities);
    }
    report
}

/// The longest a single case may take.
const CASE_TIME_MAX: Duration = Duration::from_mins(3);

/// What became of a case that did not fail.
enum Ran {
    Yes,
    /// It turned out not to apply.
    No(&'static str),
}

fn always() -> Option<&'static str> {
    None
}

fn with_intents(capabilities: &SinkCapabilities) -> Option<&'static str> {
    (capabilities.commit != CommitStyle::Intent).then_some("the sink has no phases")
}

fn without_intents(capabilities: &SinkCapabilities) -> Option<&'static str> {
    (capabilities.commit == CommitStyle::Intent).then_some("the sink works under intents")
}

/// A sink that redoes finds its own objects by their names, so it also meets those of another cut.
fn claims(capabilities: &SinkCapabilities) -> Option<&'static str> {
    with_intents(capabilities)
        .or((!capabilities.redoes).then_some("the sink rolls forward"))
        .or(capabilities.weakness)
}

/// What [`sink_suite`] did; everything that ran has passed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SuiteReport {
    /// The cases that ran.
    pub ran: Vec<&'static str>,
    /// The cases that do not apply, and why.
    pub left_out: Vec<(&'static str, &'static str)>,
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases passed", self.ran.len())?;
        for (name, reason) in &self.left_out {
            write!(f, "; {name} left out: {reason}")?;
        }
        Ok(())
    }
}
