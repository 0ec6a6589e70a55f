//! The connector, property by property.

use std::time::Duration;

use anyhow::Result;
use aqueduct::prelude::*;

use crate::args::Args;

/// Whose hours the directories are, and whose midnight the schedule counts from (`timezone`).
const ZONE: &str = "Asia/Seoul";
/// Above the topic in every key (`topics.dir`).
pub const PREFIX: &str = "backup";

/// Checks everything and connects to nothing.
pub async fn build(args: &Args) -> Result<Pipeline> {
    let pipeline = Pipeline::from(source(args)?)
        .convert(Json::new())
        .partition(layout()?)
        .sink(sink(args).await?)
        // flush.size and rotate.schedule.interval.ms
        .rotate(any((MaxRecords(500), Schedule::minutes(1, ZONE))))
        .name(&args.group)
        .spool_dir(args.spool.clone().unwrap_or_else(std::env::temp_dir))
        .require(Guarantee::ExactlyOnce)
        .build()?;
    Ok(pipeline)
}

fn source(args: &Args) -> Result<KafkaSource> {
    let mut source = KafkaSource::builder()
        .brokers(&args.brokers)
        .group(&args.group)
        .topics([&args.topic])
        .start(StartAt::Earliest);
    if args.until_end {
        source = source.until_end();
    }
    Ok(source.build()?)
}

/// `path.format`, `partition.duration.ms`, `timezone`; the timestamp is the record's.
pub fn layout() -> Result<ByTime> {
    Ok(ByTime::joda("'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH", ZONE)?.every(Duration::from_hours(1))?)
}

async fn sink(args: &Args) -> Result<S3Sink<JsonLines>> {
    let mut sink = S3Sink::builder()
        .region(&args.region)
        .bucket(&args.bucket)
        .prefix(PREFIX)
        .part_bytes(5 << 20)
        .format(JsonLines::new());
    if let Some(endpoint) = &args.endpoint {
        sink = sink.endpoint(endpoint);
    }
    if let (Some(access), Some(secret)) = (&args.access_key, &args.secret_key) {
        sink = sink.credentials(access, secret.clone());
    }
    Ok(sink.build().await?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[tokio::test]
    async fn the_defaults_build_and_are_exactly_once() {
        let pipeline = build(&Args::parse_from(["s3-archive"])).await.unwrap();
        assert_eq!(pipeline.guarantee(), Guarantee::ExactlyOnce);
    }

    #[tokio::test]
    async fn a_wrong_setting_is_named() {
        let args = Args::parse_from(["s3-archive", "--bucket", "s3://demo-bucket"]);
        let message = build(&args).await.unwrap_err().to_string();
        assert!(message.contains("demo-bucket"), "{message}");
    }
}
