//! What a builder is told of topics, of how much is to be expected, and of where tokens come from.

use std::time::Duration;

use super::{BigQueryConfigError, BigQuerySinkBuilder};
use crate::destination::{TopicNames, Topics};

impl BigQuerySinkBuilder {
    /// The table of one topic: `table`, `dataset.table` or `project.dataset.table`. Topics may share one.
    pub fn topic_table(mut self, topic: impl Into<String>, table: impl Into<String>) -> Self {
        self.topic_tables.push((topic.into(), table.into()));
        self
    }

    /// The table of the topics that `pattern` matches, in the syntax of the [`regex`](https://docs.rs/regex/latest/regex/#syntax)
    /// crate and from end to end. In `table`, as in [`topic_table`](Self::topic_table), `$name`, `${name}` and `$1` stand for
    /// what groups have matched and `$$` for a `$`. Patterns are tried in the order they are given in, behind
    /// [`topic_table`](Self::topic_table) and before [`table`](Self::table).
    ///
    /// ```
    /// # use aqueduct_sink_bigquery::BigQuerySink;
    /// // logs.web goes to dataset logs, table web; logs.web.front to logs.web_front_x… with an ending of its own.
    /// let builder = BigQuerySink::builder().topic_pattern(r"logs\.(?<app>.+)", "logs.$app");
    /// # drop(builder);
    /// ```
    pub fn topic_pattern(mut self, pattern: impl Into<String>, table: impl Into<String>) -> Self {
        self.topic_patterns.push((pattern.into(), table.into()));
        self
    }

    /// How topics' names become names of tables; so that no two meet, by default.
    pub fn topic_names(mut self, names: TopicNames) -> Self {
        self.topic_names = names;
        self
    }

    /// How many partitions all processes of the pipeline read together; 1 by default. With
    /// [`expected_tables`](Self::expected_tables) and the rotation it says how many write streams an hour takes, and a pipeline that
    /// would take more than half of [`create_quota`](Self::create_quota) is not built.
    pub fn expected_lanes(mut self, lanes: usize) -> Self {
        self.expected.lanes = lanes;
        self
    }

    /// How many tables the rows of one segment go to, mostly; 1 by default, [`routes_max`](Self::routes_max) at most.
    pub fn expected_tables(mut self, tables: usize) -> Self {
        self.expected.tables = tables;
        self
    }

    /// How long the segments of a lane live, on average and at the least, whatever ends them. Without it the rotation's clock counts,
    /// and a rotation by records or bytes alone is not looked at before it runs: only the pipeline's traffic would tell.
    pub fn expected_segment_interval(mut self, interval: Duration) -> Self {
        self.expected.interval = Some(interval);
        self
    }

    /// How many write streams may be created in an hour, 10,000 by default
    /// (<https://cloud.google.com/bigquery/quotas#createwritestream>). Where other processes create them in the same project and region,
    /// what they leave: a lane of this one waits before it creates one too many.
    pub fn create_quota(mut self, streams_per_hour: usize) -> Self {
        self.create_quota = streams_per_hour;
        self
    }

    /// Another URL of the IAM Service Account Credentials interface, as `https://iamcredentials.googleapis.com`, for
    /// [`Credentials::Impersonated`](crate::Credentials::Impersonated). Credential files name their endpoints themselves.
    pub fn iam_endpoint(mut self, url: impl Into<String>) -> Self {
        self.auth.iam = url.into();
        self
    }

    /// Another URL of the metadata server, as `http://metadata.google.internal`; that of `GCE_METADATA_HOST` without it.
    pub fn metadata_endpoint(mut self, url: impl Into<String>) -> Self {
        self.auth.metadata = Some(url.into());
        self
    }

    pub(super) fn topics(&self, problems: &mut Vec<BigQueryConfigError>) -> Topics {
        let mut topics = Topics::named_by(self.topic_names);
        let mut note = |option, text: &str, problem| {
            problems.push(BigQueryConfigError::Topics { option, text: text.to_owned(), problem });
        };
        for (topic, table) in &self.topic_tables {
            topics.add(topic, table).unwrap_or_else(|problem| note("topic_table", topic, problem));
        }
        for (pattern, table) in &self.topic_patterns {
            for problem in topics.add_pattern(pattern, table).err().into_iter().flatten() {
                note("topic_pattern", pattern, problem);
            }
        }
        topics
    }
}
