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
        let layout = ByTime::joda(pattern, zone)?.every(Duration::from_millis(period_ms.parse()?))?;
        assert_eq!(route(&layout, at_ms.parse()?)?, expected, "{row}");
    }
    Ok(())
}

fn route(layout: &ByTime, at_ms: i64) -> Result<String, Box<dyn std::error::Error>> {
    let mut batch = BatchBuilder::new(TopicPartition::new("t", 0), 0);
    batch.push(Offset::ZERO, Timestamp::Create(at_ms), None, None, []);
    let batch = batch.build(Permit::unlimited());
    let record = batch.get(0).ok_or("one record")?;
    let mut path = RoutePath::default();
    layout.route(&record, &(), &mut path)?;
    Ok(path.as_str().to_owned())
}

/// `names.tsv` was printed by Joda-Time too, on Java 17 with `Locale.forLanguageTag`: locale, pattern, and what it shows
/// on the first of each month, or in the first week of January 2024. Locales whose names CLDR has changed since are not
/// in it.
#[test]
fn names_agree() -> Result<(), Box<dyn std::error::Error>> {
    const DAY_MS: i64 = 86_400_000;
    let golden = include_str!("names.tsv");
    assert!(golden.lines().count() >= 100);
    for row in golden.lines() {
        let columns: Vec<&str> = row.split('\t').collect();
        let &[locale, pattern, expected] = columns.as_slice() else {
            panic!("three columns, not {row:?}");
        };
        let joda = ByTime::joda(pattern, "UTC")?.locale(locale)?;
        let specifier = match pattern {
            "MMM" => "%b",
            "MMMM" => "%B",
            "EEE" => "%a",
            _ => "%A",
        };
        let strftime = ByTime::strftime(specifier, "UTC")?.locale(&locale.replace('-', "_"))?;
        for (index, expected) in (0_i64..).zip(expected.split('|')) {
            let first_of_2024 = 19_723 * DAY_MS;
            let days = if pattern.starts_with('M') { MONTHS[usize::try_from(index)?] } else { index };
            let at_ms = first_of_2024 + days * DAY_MS;
            for layout in [&joda, &strftime] {
                assert_eq!(route(layout, at_ms)?, expected, "{row}");
            }
        }
    }
    Ok(())
}

/// Days of 2024 before each month.
const MONTHS: [i64; 12] = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335];
