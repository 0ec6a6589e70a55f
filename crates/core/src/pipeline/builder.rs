//! Composing a pipeline so that a missing or mismatched stage does not compile.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::convert::Converter;
use crate::dead_letter::{OnPoison, PoisonBreaker};
use crate::error::StageError;
use crate::fingerprint::Fingerprint;
use crate::lane::{self, LaneContext, LaneExit, LaneStart, Stages};
use crate::observe::Totals;
use crate::partition::Partitioner;
use crate::rotate::RotationPolicy;
use crate::sink::{PipelinePlan, Sink, SinkCapabilities};
use crate::source::Source;
use crate::spool::Disk;

use super::{Guarantee, Handle, Limits, OnLaneFailure, Options, Pipeline, PublishedSegment};

/// A stage that is not chosen yet.
#[derive(Clone, Copy, Debug)]
pub struct Unset;

/// Collects stages and options; see [`Pipeline::from`].
///
/// The stages are set in the order of a record's way, so that each can be checked against the one before it. The same
/// builder takes `Arc<dyn Converter<Output = T>>`, `Box<dyn Partitioner<T>>` and `Arc<dyn Sink<T>>` where a program
/// decides at run time.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<Src, C, P, K> {
    source: Src,
    converter: C,
    partitioner: P,
    sink: K,
    options: Options,
}

impl<Src: Source> Builder<Src, Unset, Unset, Unset> {
    pub(super) fn new(source: Src) -> Self {
        Self { source, converter: Unset, partitioner: Unset, sink: Unset, options: Options::default() }
    }

    /// How a record's bytes become a value.
    pub fn convert<C: Converter>(self, converter: C) -> Builder<Src, C, Unset, Unset> {
        let Self { source, options, .. } = self;
        Builder { source, converter, partitioner: Unset, sink: Unset, options }
    }
}

// The bounds stand on the methods, not on the impls: so the compiler says what is wrong with a stage, in the words of its
// trait, and not that there is no such method.
impl<Src, C> Builder<Src, C, Unset, Unset> {
    /// Which route a value takes.
    pub fn partition<P>(self, partitioner: P) -> Builder<Src, C, P, Unset>
    where
        C: Converter,
        P: Partitioner<C::Output>,
    {
        let Self { source, converter, options, .. } = self;
        Builder { source, converter, partitioner, sink: Unset, options }
    }
}

impl<Src, C, P> Builder<Src, C, P, Unset> {
    /// Where values go.
    pub fn sink<K>(self, sink: K) -> Builder<Src, C, P, K>
    where
        C: Converter,
        P: Partitioner<C::Output>,
        K: Sink<C::Output>,
    {
        let Self { source, converter, partitioner, options, .. } = self;
        Builder { source, converter, partitioner, sink, options }
    }
}

impl<Src, C, P, K> Builder<Src, C, P, K> {
    /// When segments end. The default is whichever comes first of 128 MiB and 5 minutes.
    pub fn rotate(mut self, policy: impl RotationPolicy) -> Self {
        self.options.rotation = Arc::new(policy);
        self
    }

    /// What happens to a record that cannot be processed. The default is to stop.
    pub fn on_poison(mut self, policy: OnPoison) -> Self {
        self.options.on_poison = policy;
        self
    }

    /// Stops a lane when too many of its records cannot be processed; by default no number is too large.
    pub fn poison_breaker(mut self, breaker: PoisonBreaker) -> Self {
        self.options.poison_breaker = Some(breaker);
        self
    }

    /// What a lane's failure means for the others. The default is to drain them and end.
    pub fn on_lane_failure(mut self, policy: OnLaneFailure) -> Self {
        self.options.on_lane_failure = policy;
        self
    }

    /// Memory, disk and record size.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// The pipeline's name, in logs, metrics and the spool directory: letters, digits, dots, dashes and underscores.
    /// Two pipelines that share a spool directory need different names. The default is `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// The directory below which the pipeline makes its scratch directory; on a local disk with room for the disk
    /// budget. The default is the system's directory for temporary files.
    pub fn spool_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.options.spool_dir = directory.into();
        self
    }

    /// Refuses to build if the computed guarantee is weaker, and to run over offsets that another program committed.
    pub fn require(mut self, guarantee: Guarantee) -> Self {
        self.options.require = Some(guarantee);
        self
    }

    /// Whether a committed offset that another program set (an operator's reset, a former connector) may be taken as
    /// a start under `require(ExactlyOnce)`.
    pub fn adopt_foreign_marks(mut self, adopt: bool) -> Self {
        self.options.adopt_foreign_marks = adopt;
        self
    }

    /// Called after every commit of a published segment, with its object keys. It runs in the lane: hand long work to
    /// a task of your own. After a crash between publishing and the commit it is called again for the same segment.
    pub fn on_published(mut self, hook: impl Fn(&PublishedSegment) + Send + Sync + 'static) -> Self {
        self.options.on_published = Some(Arc::new(hook));
        self
    }

    /// How long lanes may take to publish what they have at shutdown. The default, 25 s, fits into Kubernetes' 30. More than a
    /// year counts as a year.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        // Added to the time of the shutdown, it must not pass the end of all times.
        self.options.shutdown_timeout = timeout.min(Duration::from_hours(24 * 365));
        self
    }

    /// The wall clock, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options.clock = clock;
        self
    }

    /// The spool's file system, for tests.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.options.disk = disk;
        self
    }
}

impl<Src, C, P, K> Builder<Src, C, P, K> {
    /// Checks the configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// All problems at once.
    pub fn build(self) -> Result<Pipeline, BuildErrors>
    where
        Src: Source,
        C: Converter,
        P: Partitioner<C::Output>,
        K: Sink<C::Output>,
    {
        let Self { source, converter, partitioner, sink, options } = self;
        let capabilities = sink.capabilities();
        let guarantee = Guarantee::compute(converter.replay(), partitioner.replay(), &capabilities);
        let mut problems = options.rotation.problems();
        problems.extend(name_problem(&options.name));
        problems.extend(memory_problem(&options.limits));
        problems.extend(options.poison_breaker.and_then(PoisonBreaker::problem));
        let plan = PipelinePlan::default().with_segment_interval(options.rotation.interval());
        problems.extend(sink.plan_problems(&plan));
        if let Some(required) = options.require
            && !guarantee.meets(required)
        {
            problems.push(format!("{required} is required, but the stages give {guarantee}"));
        }
        if options.shutdown_timeout.is_zero() {
            problems.push(
                "the shutdown timeout is zero: no open segment could ever be published at shutdown".into(),
            );
        }
        if !problems.is_empty() {
            return Err(BuildErrors { problems });
        }
        let (sender, commands) = mpsc::channel(16);
        let totals = Arc::new(Totals::default());
        let handle = Handle {
            name: options.name.clone(),
            guarantee,
            totals: Arc::clone(&totals),
            budget: options.limits.budget.clone(),
            paused: Arc::default(),
            commands: sender,
        };
        let stages = Arc::new(Stages { converter, partitioner, sink });
        Ok(Pipeline { source: Box::new(source), stages, options, guarantee, totals, handle, commands })
    }
}

fn name_problem(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let fine = !name.is_empty() && name.len() <= 100 && name.bytes().all(allowed) && !name.starts_with('.');
    (!fine).then(|| {
        format!(
            "the pipeline's name {name:?} cannot be part of a directory's name: use 1 to 100 letters, digits, dashes, \
             underscores and dots, not starting with a dot"
        )
    })
}

fn memory_problem(limits: &Limits) -> Option<String> {
    let memory = limits.budget.memory_bytes();
    (memory < Budget::MIN_MEMORY).then(|| {
        format!(
            "the memory budget of {memory} bytes is below {}: a few batches and one buffer to publish from",
            Budget::MIN_MEMORY
        )
    })
}

impl<Src, C, P, K> fmt::Debug for Builder<Src, C, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildErrors {
    problems: Vec<String>,
}

impl BuildErrors {
    /// The problems, each one sentence with its remedy.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pipeline cannot be built: {}", self.problems.join("; "))
    }
}

impl std::error::Error for BuildErrors {}

/// The stages with their types erased: what the supervisor needs of them.
pub(crate) trait Runnable: Send + Sync {
    fn check(&self) -> BoxFuture<'_, Result<(), StageError>>;
    fn capabilities(&self) -> SinkCapabilities;
    fn fingerprint(&self) -> Fingerprint;
    fn run_lane(self: Arc<Self>, context: Arc<LaneContext>, start: LaneStart)
    -> BoxFuture<'static, LaneExit>;
}

impl<C, P, K> Runnable for Stages<C, P, K>
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: Sink<C::Output>,
{
    fn check(&self) -> BoxFuture<'_, Result<(), StageError>> {
        self.sink.check()
    }

    fn capabilities(&self) -> SinkCapabilities {
        self.sink.capabilities()
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut parts = Fingerprint::new();
        parts.put("core", "1");
        self.converter.fingerprint(&mut parts);
        self.partitioner.fingerprint(&mut parts);
        self.sink.fingerprint(&mut parts);
        parts
    }

    fn run_lane(
        self: Arc<Self>,
        context: Arc<LaneContext>,
        start: LaneStart,
    ) -> BoxFuture<'static, LaneExit> {
        Box::pin(lane::run(self, context, start))
    }
}
