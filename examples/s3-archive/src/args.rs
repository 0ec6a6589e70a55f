//! What differs from place to place; everything else is code, in [`crate::pipeline`].

use std::path::PathBuf;

use clap::Parser;

/// Archives the topic examples-s3-sink into S3: one JSON value a line, one directory an hour of Seoul's time.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Builds the pipeline, which checks every setting, shows what it guarantees and where an object would go, and
    /// ends without having connected to anything.
    #[arg(long)]
    pub check: bool,
    /// Stops once everything that was there at the start is archived, of the partitions this process is given. One that was
    /// killed keeps its partitions for another 45 s: run it again after that, or give both the same static_member.
    #[arg(long)]
    pub until_end: bool,
    /// Kafka brokers.
    #[arg(long, value_name = "HOST:PORT,…", env = "ARCHIVE_BROKERS", default_value = "localhost:9092")]
    pub brokers: String,
    /// The consumer group: who continues where. Connect calls it connect-NAME.
    #[arg(long, env = "ARCHIVE_GROUP", default_value = "examples-s3-archive")]
    pub group: String,
    /// The topic.
    #[arg(long, env = "ARCHIVE_TOPIC", default_value = "examples-s3-sink")]
    pub topic: String,
    /// The bucket; it must exist.
    #[arg(long, env = "ARCHIVE_BUCKET", default_value = "demo-bucket")]
    pub bucket: String,
    /// The bucket's region.
    #[arg(long, env = "ARCHIVE_REGION", default_value = "ap-northeast-2")]
    pub region: String,
    /// An S3 server that is not Amazon's, such as http://localstack:4566. Its bucket goes into the path.
    #[arg(long, value_name = "URL", env = "ARCHIVE_ENDPOINT")]
    pub endpoint: Option<String>,
    /// A static access key [default: found as any AWS program does: environment, profile, instance role].
    #[arg(
        long,
        value_name = "KEY",
        env = "ARCHIVE_ACCESS_KEY_ID",
        hide_env_values = true,
        requires = "secret_key"
    )]
    pub access_key: Option<String>,
    /// Its secret.
    #[arg(long, value_name = "KEY", env = "ARCHIVE_SECRET_ACCESS_KEY", hide_env_values = true)]
    #[arg(requires = "access_key")]
    pub secret_key: Option<String>,
    /// Local disk for records on their way [default: the system's temporary directory].
    #[arg(long, value_name = "DIR", env = "ARCHIVE_SPOOL")]
    pub spool: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_key_without_its_secret_is_refused() {
        let message = Args::try_parse_from(["s3-archive", "--access-key", "user"]).unwrap_err().to_string();
        assert!(message.contains("--secret-key"), "{message}");
    }
}
