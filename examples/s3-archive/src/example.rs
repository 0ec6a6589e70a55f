//! Where one record would go, worked out by the pipeline's own layout.

use anyhow::{Context as _, Result};
use aqueduct::files::KeyTemplate;
use aqueduct::{
    BatchBuilder, Offset, OffsetRange, Partitioner, Permit, RoutePath, Timestamp, TopicPartition,
};

use crate::pipeline::{PREFIX, layout};

/// The key of an object that begins with offset 95403 of partition 0, of 28 June 2021, 07:26 in Seoul.
pub fn key(topic: &str) -> Result<String> {
    let (lane, offset) = (TopicPartition::new(topic, 0), Offset::new(95_403));
    let mut batch = BatchBuilder::new(lane.clone(), 64);
    batch.push(offset, Timestamp::Create(1_624_832_800_000), None, Some(b"{}"), []);
    let batch = batch.build(Permit::unlimited());
    let record = batch.get(0).context("the record just pushed")?;
    let mut route = RoutePath::default();
    layout()?.route(&record, &(), &mut route)?;
    let range = OffsetRange::new(offset, offset.next()).context("one record")?;
    Ok(KeyTemplate::new(PREFIX).render(&lane, route.as_str(), range, ".json"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn objects_have_the_names_the_connector_gave_them() {
        assert_eq!(
            super::key("examples-s3-sink").unwrap(),
            "backup/examples-s3-sink/year=2021/month=06/day=28/hour=07/examples-s3-sink+0+0000095403.json"
        );
    }
}
