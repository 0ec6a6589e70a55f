//! Layouts by time give what Joda-Time 2.13, and so Kafka Connect, gives.
//!
//! `golden.tsv` was printed by Joda-Time itself, not by this code: instants from 1970 to 2022, two of three near a
//! change of clocks, cut down as local time (`convertUTCToLocal`, divide, `convertLocalToUTC` without strictness) and
//! formatted with `DateTimeFormat.forPattern`. Columns: milliseconds since the epoch, zone, period in milliseconds,
//! pattern, text.

use std::time::Duration;

use aqueduct_core::{BatchBuilder, Offset, Partitioner, Permit, RoutePath, Timestamp, TopicPartition};
use aqueduct_partitioners::ByTime;

#[test]
fn every_row_agrees() -> Result<(), Box<dyn std::error::Error>> {
    let golden = include_str!("golden.tsv");
    assert!(golden.lines().count() >= 500);
    for row in golden.lines() {
        let columns: Vec<&str> = row.split('\t').collect();
        let &[at_ms, zone, period_ms, pattern, expected] = columns.as_slice() else {
            panic!("five columns, not {row:?}");
        };
        let layout = ByTime::pattern(pattern, zone)?.every(Duration::from_millis(period_ms.parse()?))?;
        let mut batch = BatchBuilder::new(TopicPartition::new("t", 0), 0);
        batch.push(Offset::ZERO, Timestamp::Create(at_ms.parse()?), None, None, []);
        let batch = batch.build(Permit::unlimited());
        let record = batch.get(0).ok_or("one record")?;
        let mut path = RoutePath::default();
        layout.route(&record, &(), &mut path)?;
        assert_eq!(path.as_str(), expected, "{row}");
    }
    Ok(())
}
