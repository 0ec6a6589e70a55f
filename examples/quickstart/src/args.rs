//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Archives a Kafka topic into S3, exactly once.
///
/// Without arguments it is a demo: an embedded broker and an embedded S3 server on this machine, server logs made up on
/// the spot, a real pipeline between them, and an audit of every object. With --brokers, --topic and --bucket the same
/// pipeline runs on your own servers, until Ctrl-C or, with --until-end, until it has caught up.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What a child process of the demo does.
    #[command(subcommand)]
    pub role: Option<Role>,
    /// How large the demo is.
    #[command(flatten)]
    pub demo: Demo,
    /// Your own servers instead of the demo.
    #[command(flatten)]
    pub servers: Option<Servers>,
    /// How they let us in.
    #[command(flatten)]
    pub secrets: Secrets,
}

/// The demo's size.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Demo")]
pub struct Demo {
    /// Events to produce. The embedded broker keeps 5 MiB a partition, so there is a limit.
    #[arg(long, default_value_t = 240_000, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    pub events: u32,
    /// A directory that keeps the objects when the embedded S3 server is gone; it should be empty.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Where from, where to, and how objects are cut and named.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Your own servers")]
pub struct Servers {
    /// Kafka brokers.
    #[arg(long, value_name = "HOST:PORT,…", required = false, requires_all = ["topic", "bucket"])]
    pub brokers: String,
    /// The topic to archive.
    #[arg(long, required = false, requires_all = ["brokers", "bucket"])]
    pub topic: String,
    /// The bucket to archive it in; it must exist.
    #[arg(long, required = false, requires_all = ["brokers", "topic"])]
    pub bucket: String,
    /// The consumer group: who continues where. Also names the spool directory.
    #[arg(long, default_value = "aqueduct-quickstart", requires = "brokers")]
    pub group: String,
    /// Stops once everything that is in the topic at the start is archived.
    #[arg(long, requires = "brokers")]
    pub until_end: bool,
    /// An S3 server that is not Amazon's, such as http://127.0.0.1:9000.
    #[arg(long, value_name = "URL", requires = "brokers")]
    pub endpoint: Option<String>,
    /// The bucket's region [default: the environment's, as for any AWS program].
    #[arg(long, requires = "brokers")]
    pub region: Option<String>,
    /// Whether the bucket goes into the path instead of the host name [default: where there is an --endpoint].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", requires = "brokers")]
    pub path_style: Option<bool>,
    /// Above the topic in every key.
    #[arg(long, default_value = "topics", requires = "brokers")]
    pub prefix: String,
    /// The field of the JSON value that names the first directory; request.host looks into an object.
    #[arg(long, default_value = "service", requires = "brokers")]
    pub field: String,
    /// The time zone of the hourly directories.
    #[arg(long, default_value = "Asia/Seoul", requires = "brokers")]
    pub zone: String,
    /// Cuts after this many records of a Kafka partition …
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "brokers")]
    pub cut_records: u64,
    /// … or after this many minutes, whichever comes first.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "brokers")]
    pub cut_minutes: u32,
    /// Local disk for records on their way [default: the system's temporary directory].
    #[arg(long, value_name = "DIR", requires = "brokers")]
    pub spool: Option<PathBuf>,
}

/// What nobody else should read; the environment is a better place for it than the command line.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Secrets")]
pub struct Secrets {
    /// An S3 access key [default: found as any AWS program does: environment, profile, instance role].
    #[arg(long, value_name = "KEY", env = ACCESS_KEY_VAR, hide_env_values = true)]
    pub access_key: Option<String>,
    /// Its secret.
    #[arg(long, value_name = "KEY", env = SECRET_KEY_VAR, hide_env_values = true)]
    pub secret_key: Option<String>,
    /// A librdkafka property such as security.protocol=SASL_SSL; may be repeated, in the environment one a line.
    #[arg(
        long = "property",
        value_name = "NAME=VALUE",
        env = "QUICKSTART_PROPERTIES",
        hide_env_values = true
    )]
    #[arg(value_delimiter = '\n', value_parser = property)]
    pub properties: Vec<(String, String)>,
}

/// What a child process does. Not for the command line of a person.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Serves Kafka.
    #[command(hide = true)]
    Broker {
        /// The topic to create.
        #[arg(long)]
        topic: String,
        /// Its partitions.
        #[arg(long)]
        partitions: u32,
    },
    /// Serves S3.
    #[command(hide = true)]
    Storage {
        /// The bucket to create.
        #[arg(long)]
        bucket: String,
        /// Where its files stay.
        #[arg(long)]
        keep: Option<PathBuf>,
    },
    /// Runs the pipeline and reports in JSON.
    #[command(hide = true)]
    Pipeline(Box<Worker>),
}

/// What the pipeline's process is told.
#[derive(Debug, clap::Args)]
pub struct Worker {
    /// What the program takes for your own servers.
    #[command(flatten)]
    pub servers: Servers,
    /// How they let it in.
    #[command(flatten)]
    pub secrets: Secrets,
    /// Records to come, for the progress bar.
    #[arg(long)]
    pub expect: u64,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("a property is NAME=VALUE, such as security.protocol=SSL".to_owned()),
    }
}

/// The environment's S3 access key. Not `AWS_ACCESS_KEY_ID`: that one is found anyway, with its session token.
pub const ACCESS_KEY_VAR: &str = "QUICKSTART_ACCESS_KEY";
/// See [`ACCESS_KEY_VAR`].
pub const SECRET_KEY_VAR: &str = "QUICKSTART_SECRET_KEY";

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
    fn no_argument_is_the_demo_and_three_are_your_own_servers() {
        assert!(parse("quickstart").unwrap().servers.is_none());
        assert!(parse("quickstart --events 2000").unwrap().servers.is_none());
        let own =
            parse("quickstart --brokers a:9092 --topic t --bucket b --until-end").unwrap().servers.unwrap();
        assert_eq!((own.brokers.as_str(), own.prefix.as_str(), own.until_end), ("a:9092", "topics", true));
    }

    #[test]
    fn a_missing_server_is_named() {
        let message = parse("quickstart --brokers a:9092").unwrap_err().to_string();
        assert!(message.contains("--topic") && message.contains("--bucket"), "{message}");
        let message = parse("quickstart --zone UTC").unwrap_err().to_string();
        assert!(message.contains("--brokers"), "{message}");
    }

    #[test]
    fn properties_are_pairs() {
        let line = "quickstart --property a=b=c --property d=";
        assert_eq!(
            parse(line).unwrap().secrets.properties,
            [("a".to_owned(), "b=c".to_owned()), ("d".to_owned(), String::new())]
        );
        assert!(parse("quickstart --property nonsense").is_err());
    }
}
