//! The layout of the source's own partitions.

use aqueduct_core::{Fingerprint, Partitioner, Poison, PoisonReason, Record, RoutePath};

use crate::short_text::ShortText;

/// One level `partition=<n>` with the number of the record's Kafka partition: Confluent's default layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKafkaPartition;

impl<T: ?Sized> Partitioner<T> for ByKafkaPartition {
    fn route(&self, record: &Record<'_>, _value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        // An `i32` has at most 11 characters.
        let number = ShortText::<11>::of(record.lane().partition()).ok_or_else(|| {
            Poison::new(PoisonReason::InvalidRoute, "the partition's number has too many digits")
        })?;
        path.push_field("partition", number.as_str())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "kafka-partition/1");
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::TopicPartition;

    use super::*;
    use crate::tests::Sample;

    #[test]
    fn the_level_is_the_partition() {
        for partition in [0, 7, 12_345, i32::MAX] {
            let sample = Sample { lane: TopicPartition::new("t", partition), ..Sample::default() };
            assert_eq!(sample.route(&ByKafkaPartition, &()).unwrap(), format!("partition={partition}"));
        }
    }
}
