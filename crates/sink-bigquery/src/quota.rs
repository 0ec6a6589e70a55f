//! How many write streams may be created.
//!
//! A project may create 10,000 in an hour and region (<https://cloud.google.com/bigquery/quotas#createwritestream>). One is created
//! for each table of each segment, so whether that is enough is decided by three numbers that only the configuration knows: it is
//! looked at before the pipeline runs, and refused from half of the quota on, because recovery, retries and other programs create
//! streams as well. While it runs, what was created is counted, and a lane waits where the next one would be one too many: a
//! request over the quota fails, and counts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aqueduct_core::PipelinePlan;
use tokio::time::Instant;

use crate::error::BigQueryError;

/// What Google's documents say.
pub(crate) const CREATES_PER_HOUR: usize = 10_000;

/// What is expected of a pipeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) lanes: usize,
    pub(crate) tables: usize,
    /// Instead of what the rotation says.
    pub(crate) interval: Option<Duration>,
}

const HOUR: Duration = Duration::from_hours(1);
/// Creations of this time are counted together.
const BUCKET: Duration = Duration::from_mins(1);
/// The longest wait before the window is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Streams created in the last hour, by project. In which region datasets are is not known here, so all of a project count together.
#[derive(Debug)]
pub(crate) struct CreateQuota {
    per_hour: u64,
    projects: Mutex<HashMap<String, Window>>,
}

#[derive(Debug, Default)]
struct Window {
    /// When a bucket began, and how many are in it.
    buckets: VecDeque<(Instant, u64)>,
    total: u64,
    /// Half of the quota was passed and said.
    is_warned: bool,
}

impl CreateQuota {
    pub(crate) fn new(per_hour: usize) -> Self {
        Self { per_hour: per_hour as u64, projects: Mutex::default() }
    }

    /// Counts one more, unless it is one too many.
    pub(crate) fn take(&self, project: &str) -> Result<(), BigQueryError> {
        self.take_at(project, Instant::now())
    }

    fn take_at(&self, project: &str, now: Instant) -> Result<(), BigQueryError> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let window = projects.entry(project.to_owned()).or_default();
        window.forget(now);
        if window.total >= self.per_hour {
            let free = window.buckets.front().map_or(WAIT_MAX, |(began, _)| (*began + BUCKET + HOUR) - now);
            let (project, created) = (project.to_owned(), window.total);
            return Err(BigQueryError::CreateQuota { project, created, after: free.min(WAIT_MAX) });
        }
        window.add(now);
        let is_half = window.total > self.per_hour / 2;
        if is_half && !window.is_warned {
            tracing::warn!(
                project,
                created = window.total,
                "more than half of the write streams of an hour are created"
            );
        }
        window.is_warned = is_half;
        Ok(())
    }

    /// How many were created within the last hour, over all projects; up to a minute more.
    pub(crate) fn created(&self) -> u64 {
        self.created_at(Instant::now())
    }

    fn created_at(&self, now: Instant) -> u64 {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects
            .values_mut()
            .map(|window| {
                window.forget(now);
                window.total
            })
            .sum()
    }

    /// What is wrong with a plan: nothing, or that it would use up more than half.
    pub(crate) fn problem(&self, plan: &PipelinePlan, expected: Expected) -> Option<String> {
        let Some(interval) = expected.interval.or(plan.segment_interval) else {
            tracing::warn!(
                "segments end by records or bytes alone, so how many write streams an hour takes is not known; \
                 expected_segment_interval() says it"
            );
            return None;
        };
        let streams = (expected.lanes as u64).saturating_mul(expected.tables as u64);
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let an_hour = streams.saturating_mul(HOUR_MS) / interval_ms;
        let half = self.per_hour / 2;
        if an_hour <= half {
            return None;
        }
        let enough = streams.saturating_mul(HOUR_MS / 1000).div_ceil(half.max(1));
        let Expected { lanes, tables, .. } = expected;
        Some(format!(
            "{lanes} lanes with {tables} tables and a segment every {:.1} s would create {an_hour} write streams an hour, more than \
             half of the quota of {}: let segments live for {enough} s or longer, write to fewer tables, or use \
             Delivery::AtLeastOnce, which needs none",
            interval.as_secs_f64(),
            self.per_hour,
        ))
    }
}

const HOUR_MS: u64 = 3_600_000;

impl Window {
    fn forget(&mut self, now: Instant) {
        while let Some((began, count)) = self.buckets.front().copied()
            && now.duration_since(began) >= BUCKET + HOUR
        {
            self.buckets.pop_front();
            self.total -= count;
        }
    }

    fn add(&mut self, now: Instant) {
        self.total += 1;
        match self.buckets.back_mut() {
            Some((began, count)) if now.duration_since(*began) < BUCKET => *count += 1,
            _ => self.buckets.push_back((now, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hour_has_more_than_the_quota() {
        let quota = CreateQuota::new(100);
        let (mut now, mut taken) = (Instant::now(), VecDeque::new());
        for _ in 0..2000 {
            match quota.take_at("p", now) {
                Ok(()) => taken.push_back(now),
                Err(BigQueryError::CreateQuota { after, created, .. }) => {
                    assert!(after > Duration::ZERO && after <= WAIT_MAX && created == 100);
                    now += after;
                }
                Err(error) => panic!("{error:?}"),
            }
            now += Duration::from_secs(7);
            let within = taken.iter().filter(|at| now.duration_since(**at) < HOUR).count();
            assert!(within <= 100, "{within}");
            assert!(quota.created_at(now) >= within as u64);
        }
        assert!(taken.len() > 300, "it goes on after an hour: {}", taken.len());
        assert!(quota.take_at("q", now).is_ok(), "projects have quotas of their own");
    }

    #[test]
    fn a_plan_may_take_half_and_no_more() {
        let quota = CreateQuota::new(10_000);
        let plan = |seconds| PipelinePlan::default().with_segment_interval(seconds);
        let expected = |lanes, tables| Expected { lanes, tables, interval: None };
        let seconds = |seconds| plan(Some(Duration::from_secs(seconds)));
        assert_eq!(quota.problem(&seconds(72), expected(100, 1)), None, "5,000 an hour");
        let problem = quota.problem(&seconds(71), expected(100, 1)).unwrap();
        assert!(problem.contains("5070 write streams") && problem.contains("for 72 s"), "{problem}");
        assert_eq!(quota.problem(&seconds(300), expected(100, 4)), None);
        assert!(quota.problem(&seconds(300), expected(1000, 6)).is_some());
        assert!(quota.problem(&plan(Some(Duration::ZERO)), expected(1, 1)).is_some());
        assert_eq!(quota.problem(&plan(None), expected(9999, 6)), None, "nobody knows");
        let stated = Expected { interval: Some(Duration::from_secs(10)), ..expected(9999, 6) };
        assert!(quota.problem(&plan(None), stated).is_some());
    }
}
