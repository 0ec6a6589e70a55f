//! The pipeline process of an integration run: `cargo xtask worker JSON`, spawned, killed, frozen and asked to end by the
//! scenarios. It takes its [`Options`] as one JSON argument and says what happens to it in [`Event`]s, one JSON line each.

mod access;
mod bigquery;
mod compose;
mod event;
mod host;
mod options;
mod tickets;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct::{ErrorChain, Handle, LaneState, LaneStatus};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use xtask::process::Process;

pub(crate) use self::access::{Access, Certificate, Login, TOKEN_MADE};
pub(crate) use self::bigquery::{TABLE_PREFIX, Tables, event_columns};
pub(crate) use self::event::{Event, Redriven, Summary};
pub(crate) use self::host::{Host, Shift};
pub(crate) use self::options::{
    Compression, Format, Layout, Letters, OnPoison, Options, Rotation, Sharing, SinkOptions, Skip,
};

#[derive(Debug, Args)]
pub(crate) struct WorkerCommand {
    /// The options as JSON
    options: String,
}

impl WorkerCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        // Whoever started this process may be killed: a frozen or lingering worker must not outlive it.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let options: Options = serde_json::from_str(&self.options)
            .context("the worker's argument is not its options as JSON")?;
        // Before anything else, so that a signal that comes early is not the end of the process.
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = async move {
            terminate.recv().await;
        };
        options.host.limit()?;
        if let Some(letters) = &options.redrive {
            return redrive(&options, letters).await;
        }
        let outcome = match compose::pipeline(&options).await {
            Ok(pipeline) => {
                Event::Started { guarantee: pipeline.guarantee().to_string() }.say()?;
                let watched = tokio::spawn(watch(pipeline.handle()));
                let outcome = pipeline.run(shutdown).await;
                watched.abort();
                outcome.map_err(|error| ErrorChain(&error).to_string())
            }
            Err(error) => Err(format!("{error:#}")),
        };
        Event::failpoints().say()?;
        match outcome {
            Ok(report) => {
                let usage = Process::current()?.usage()?;
                Event::Done(Summary::of(&report, usage.peak_rss_bytes)).say()?;
                Ok(ExitCode::SUCCESS)
            }
            Err(message) => {
                Event::Failed { message }.say()?;
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Drives letters again in place of running a pipeline. SIGTERM has no effect: it is over soon, or killed.
async fn redrive(options: &Options, letters: &Letters) -> Result<ExitCode> {
    match tickets::redrive(options, letters).await {
        Ok(redriven) => {
            Event::Redriven(redriven).say()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            Event::Failed { message: format!("{error:#}") }.say()?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How often the pipeline's state is looked at: a scenario that acts on a pending intent is at most this late.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A lane that waits is told of, for each reason, at most this often.
const SAY_WAIT_EVERY: Duration = Duration::from_millis(500);

/// Says which lanes there are and which of them have a pending intent, whenever that changes.
async fn watch(handle: Handle) {
    let (mut lanes_said, mut pending_said, mut retrying_said) = (BTreeSet::new(), BTreeSet::new(), None);
    let mut waits_said: BTreeMap<String, Instant> = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let status = handle.status();
        let lanes: BTreeSet<String> = status.lanes.iter().map(|it| it.lane.to_string()).collect();
        let pending = status.lanes.iter().filter(|it| it.pending_intent);
        let pending: BTreeSet<String> = pending.map(|it| it.lane.to_string()).collect();
        let retrying = status.lanes.iter().find_map(|it| it.retrying.clone());
        let mut said = Ok(());
        if lanes != lanes_said {
            lanes_said.clone_from(&lanes);
            said = said.and(Event::Assigned { lanes }.say());
        }
        if pending != pending_said {
            pending_said.clone_from(&pending);
            said = said.and(Event::Pending { lanes: pending }.say());
        }
        if retrying != retrying_said {
            retrying_said.clone_from(&retrying);
            said = said.and(Event::Retrying { error: retrying }.say());
        }
        for LaneStatus { state, .. } in &status.lanes {
            if let LaneState::Waiting(reason) = state
                && waits_said.get(reason).is_none_or(|said| said.elapsed() >= SAY_WAIT_EVERY)
            {
                waits_said.insert(reason.clone(), Instant::now());
                said = said.and(Event::Waiting { reason: reason.clone() }.say());
            }
        }
        if said.is_err() {
            // Nobody listens any more; the parent's death is noticed elsewhere.
            return;
        }
    }
}
