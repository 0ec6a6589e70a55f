//! What differs from place to place.

use clap::Parser;

/// Archives orders as Parquet, a directory a day; without arguments on servers of its own, and then checks what it wrote.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
    /// How many orders to produce on the embedded servers.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub orders: u32,
    /// Kafka brokers; without them, everything is embedded.
    #[arg(long, value_name = "HOST:PORT,…", env = "ORDERS_BROKERS", requires_all = ["registry", "bucket"])]
    pub brokers: Option<String>,
    /// The schema registry.
    #[arg(long, value_name = "URL", env = "ORDERS_REGISTRY", requires = "brokers")]
    pub registry: Option<String>,
    /// The bucket; it must exist. Credentials are found as any AWS program finds them.
    #[arg(long, env = "ORDERS_BUCKET", requires = "brokers")]
    pub bucket: Option<String>,
    /// The bucket's region.
    #[arg(long, env = "ORDERS_REGION", default_value = "eu-central-1")]
    pub region: String,
    /// An S3 server that is not Amazon's.
    #[arg(long, value_name = "URL", env = "ORDERS_ENDPOINT", requires = "brokers")]
    pub endpoint: Option<String>,
    /// The topic.
    #[arg(long, env = "ORDERS_TOPIC", default_value = "orders")]
    pub topic: String,
    /// The consumer group: who continues where.
    #[arg(long, env = "ORDERS_GROUP", default_value = "orders-to-parquet")]
    pub group: String,
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
    fn servers_come_together() {
        let message = Args::try_parse_from(["x", "--brokers", "b:9092"]).unwrap_err().to_string();
        assert!(message.contains("--registry") && message.contains("--bucket"), "{message}");
    }
}
