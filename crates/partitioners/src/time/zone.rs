//! Local time, at the price of a few comparisons.
//!
//! A zone's rules are laid out as a table of offsets once; per record there is a binary search and no shared state to
//! write, so that lanes do not disturb each other. A cache of the last period's text was rejected for that reason.

use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::error::LayoutError;

/// A time zone of the bundled database, or a fixed offset.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    name: String,
    rules: TimeZone,
    /// Ascending; the first starts at [`TABLE_START_MS`], the last ends at [`TABLE_END_MS`].
    steps: Vec<Step>,
}

/// From `start_ms` on, local time is `offset_ms` ahead of UTC.
#[derive(Clone, Copy, Debug)]
struct Step {
    start_ms: i64,
    offset_ms: i64,
}

impl Zone {
    pub(super) fn find(zone: &str) -> Result<Self, LayoutError> {
        let rules = DateTimeParser::new()
            .parse_time_zone_with(&TimeZoneDatabase::bundled(), zone)
            .ok()
            // Rules spelled out, as in "GMT+9", count hours the other way round: nobody who writes them here means it.
            .filter(|rules| rules.iana_name().is_some() || rules.to_fixed_offset().is_ok())
            .ok_or_else(|| LayoutError::UnknownZone { zone: zone.to_owned() })?;
        // Names are found in any case; two spellings are one zone.
        let name = rules.iana_name().unwrap_or(zone).to_owned();
        let mut steps = Vec::new();
        if let Ok(start) = Timestamp::from_millisecond(TABLE_START_MS) {
            steps.push(Step { start_ms: TABLE_START_MS, offset_ms: millis(rules.to_offset(start)) });
            let later = rules.following(start).map(|transition| Step {
                start_ms: transition.timestamp().as_millisecond(),
                offset_ms: millis(transition.offset()),
            });
            steps.extend(later.take_while(|step| step.start_ms < TABLE_END_MS));
        }
        Ok(Self { name, rules, steps })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether no release of the database can change the zone.
    pub(super) fn is_fixed(&self) -> bool {
        self.rules.to_fixed_offset().is_ok()
    }

    /// When clocks in the zone show `local_ms`: of two moments the earlier; what the clocks skipped moves ahead.
    pub(super) fn instant(&self, local_ms: i64) -> Option<i64> {
        let offset = match self.rules.to_ambiguous_timestamp(civil(local_ms)?).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        Some(local_ms - millis(offset))
    }

    /// The local time at `at_ms`, cut down to a multiple of `period_ms`, as milliseconds between 1970-01-01 00:00 and
    /// the clock's reading. `None` outside the years 1 to 9999.
    #[inline]
    pub(super) fn local_floor(&self, at_ms: i64, period_ms: i64) -> Option<i64> {
        if !(TABLE_START_MS..TABLE_END_MS).contains(&at_ms) {
            return self.local_floor_by_rules(at_ms, period_ms);
        }
        let mut index = self.steps.partition_point(|step| step.start_ms <= at_ms).checked_sub(1)?;
        let mut step = self.steps.get(index)?;
        let local_ms = at_ms + step.offset_ms;
        if period_ms == 1 {
            return Some(local_ms);
        }
        let floor_ms = local_ms - local_ms.rem_euclid(period_ms);
        // Cutting down may lead back over transitions, into a step whose clocks did or did not show that time.
        while floor_ms - step.offset_ms < step.start_ms {
            let Some(before) = index.checked_sub(1).and_then(|before| self.steps.get(before)) else {
                return self.local_floor_by_rules(at_ms, period_ms);
            };
            if floor_ms - before.offset_ms >= step.start_ms {
                // Skipped: clocks went ahead here.
                return Some(floor_ms + step.offset_ms - before.offset_ms);
            }
            index -= 1;
            step = before;
        }
        Some(floor_ms)
    }

    /// The same for any time, without the table.
    #[cold]
    pub(super) fn local_floor_by_rules(&self, at_ms: i64, period_ms: i64) -> Option<i64> {
        let local_ms = self.local(at_ms)?;
        if !YEARS_MS.contains(&local_ms) {
            return None;
        }
        let floor_ms = local_ms - local_ms.rem_euclid(period_ms);
        self.local(self.instant(floor_ms)?).filter(|shown_ms| YEARS_MS.contains(shown_ms))
    }

    /// What clocks in the zone show.
    fn local(&self, at_ms: i64) -> Option<i64> {
        // No clock changes between the library's last moment and the end of its calendar, a day later.
        let nearest = if at_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(nearest);
        at_ms.checked_add(millis(self.rules.to_offset(at)))
    }
}

/// What calendar and clock show, given as milliseconds between 1970-01-01 00:00 and the reading.
pub(super) fn civil(local_ms: i64) -> Option<DateTime> {
    if let Ok(reading) = Timestamp::from_millisecond(local_ms) {
        return Some(Offset::UTC.to_datetime(reading));
    }
    // The library's moments end a day before its calendar does.
    let since = SignedDuration::from_millis(local_ms);
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(since).ok()
}

fn millis(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * 1_000
}

/// The years 1 to 9999.
const YEARS_MS: std::ops::Range<i64> = -62_135_596_800_000..253_402_300_800_000;
/// 1970-01-01; what is earlier is rare and goes by the rules.
const TABLE_START_MS: i64 = 0;
/// 2200-01-01.
const TABLE_END_MS: i64 = 7_258_118_400_000;

#[cfg(test)]
mod tests;
