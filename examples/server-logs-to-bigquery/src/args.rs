//! What differs from place to place.

use std::path::PathBuf;

use clap::Parser;

/// Loads server logs into BigQuery tables, exactly once.
///
/// Without arguments everything is embedded: a broker, a BigQuery and made-up lines; what was loaded is counted at the end.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// How many lines the demo produces.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=40_000))]
    pub lines: u32,
    /// Your own servers instead of the demo.
    #[command(flatten)]
    pub servers: Option<Servers>,
}

/// Where from and where to.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Your own servers")]
pub struct Servers {
    /// Kafka brokers.
    #[arg(long, value_name = "HOST:PORT,…", env = "LOGS_BROKERS", required = false)]
    #[arg(requires_all = ["topic", "project", "dataset"])]
    pub brokers: String,
    /// The topic of the lines, each a JSON object.
    #[arg(long, env = "LOGS_TOPIC", required = false, requires = "brokers")]
    pub topic: String,
    /// The Google Cloud project of the tables.
    #[arg(long, env = "LOGS_PROJECT", required = false, requires = "brokers")]
    pub project: String,
    /// The dataset of the tables; it must exist, they are made.
    #[arg(long, env = "LOGS_DATASET", required = false, requires = "brokers")]
    pub dataset: String,
    /// A service account's key [default: application default credentials, as for any Google Cloud program].
    #[arg(long, value_name = "FILE", requires = "brokers")]
    pub credentials: Option<PathBuf>,
    /// The consumer group: who continues where. Also names the spool directory.
    #[arg(long, env = "LOGS_GROUP", default_value = "server-logs-to-bigquery", requires = "brokers")]
    pub group: String,
    /// Lines that cannot be loaded go to this topic …
    #[arg(long, value_name = "TOPIC", requires = "brokers")]
    pub letters_topic: Option<String>,
    /// … or to files in this directory.
    #[arg(long, value_name = "DIR", default_value = "dead-letters", requires = "brokers")]
    pub letters: PathBuf,
    /// Stops once everything that is in the topic at the start is loaded.
    #[arg(long, requires = "brokers")]
    pub until_end: bool,
    /// Counts what is in the tables of what this group has loaded so far, and ends; with an error if anything is missing or there
    /// twice.
    #[arg(long, requires = "brokers")]
    pub check: bool,
    /// The topic's partitions, about: what `--seconds` may be depends on them.
    #[arg(long, value_name = "N", default_value_t = 12, requires = "brokers")]
    pub partitions: usize,
    /// Lines of a Kafka partition become visible together, after so many seconds at the latest.
    #[arg(long, value_name = "N", default_value_t = 60, requires = "brokers")]
    pub seconds: u64,
    /// Local disk for lines on their way [default: the system's temporary directory].
    #[arg(long, value_name = "DIR", requires = "brokers")]
    pub spool: Option<PathBuf>,
    /// A librdkafka property such as security.protocol=SASL_SSL; may be repeated, in the environment one a line.
    #[arg(long = "property", value_name = "NAME=VALUE", env = "LOGS_PROPERTIES", hide_env_values = true)]
    #[arg(value_delimiter = '\n', value_parser = property, requires = "brokers")]
    pub properties: Vec<(String, String)>,
    /// Another REST endpoint than Google's, such as one of Private Service Connect.
    #[arg(long, value_name = "URL", requires = "brokers")]
    pub rest_endpoint: Option<String>,
    /// Another gRPC endpoint than Google's.
    #[arg(long, value_name = "URL", requires = "brokers")]
    pub grpc_endpoint: Option<String>,
    /// The endpoints are an emulator's: no credentials, no encryption.
    #[arg(long, requires_all = ["rest_endpoint", "grpc_endpoint"], conflicts_with = "credentials")]
    pub emulator: bool,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("a property is NAME=VALUE, such as security.protocol=SSL".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_argument_is_the_demo_and_four_are_your_own_servers() {
        assert!(parse("x").unwrap().servers.is_none());
        assert!(parse("x --lines 2000").unwrap().servers.is_none());
        let line = "x --brokers a:9092 --topic t --project p --dataset d --check";
        let servers = parse(line).unwrap().servers.unwrap();
        assert!(servers.check && servers.credentials.is_none() && servers.seconds == 60);
    }

    #[test]
    fn a_missing_server_is_named() {
        let message = parse("x --brokers a:9092 --topic t").unwrap_err().to_string();
        assert!(message.contains("--project") && message.contains("--dataset"), "{message}");
        let line = "x --brokers a:9092 --topic t --project p --dataset d --emulator";
        assert!(parse(line).unwrap_err().to_string().contains("--rest-endpoint"));
    }
}
