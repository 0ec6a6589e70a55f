//! The server logs of the demo: made up, but the same in every run.
//!
//! An event is a function of its partition and its number there. The producer and the audit therefore agree on every
//! byte without sharing a list.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// All events of a run: `per_partition` of them in each of `partitions` partitions.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Kafka partitions of the topic.
    pub partitions: u32,
    /// Events in each.
    pub per_partition: u32,
}

/// What an event is known by. Its number is its offset as well, because the topic begins empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its Kafka partition.
    pub partition: u32,
    /// Its number in the partition, from 0.
    pub seq: u32,
}

/// One line of a server's log.
#[derive(Debug, Serialize)]
pub struct Event {
    #[serde(flatten)]
    id: Identity,
    time: String,
    service: &'static str,
    level: &'static str,
    host: String,
    request: Request,
    message: String,
    #[serde(skip)]
    time_ms: i64,
}

#[derive(Debug, Serialize)]
struct Request {
    id: String,
    method: &'static str,
    path: String,
    status: u16,
    duration_us: u32,
    bytes: u32,
    client: Client,
}

#[derive(Debug, Serialize)]
struct Client {
    ip: String,
    country: &'static str,
    agent: &'static str,
}

impl Events {
    /// At least `total` events, spread evenly.
    pub fn at_least(total: u32, partitions: u32) -> Self {
        Self { partitions, per_partition: total.div_ceil(partitions) }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        u64::from(self.partitions) * u64::from(self.per_partition)
    }

    /// Whether `id` is one of them.
    pub fn contains(&self, id: Identity) -> bool {
        id.partition < self.partitions && id.seq < self.per_partition
    }

    /// The event with this identity.
    pub fn event(&self, id: Identity) -> Event {
        let mut rng = fastrand::Rng::with_seed(SEED ^ (u64::from(id.partition) << 32 | u64::from(id.seq)));
        let step_ms = SPAN_MS / i64::from(self.per_partition);
        let time_ms = START_MS + i64::from(id.seq) * step_ms + rng.i64(0..=step_ms / 2);
        let service = pick(&mut rng, &SERVICES);
        let (level, status, outcome) = match rng.u32(0..1000) {
            0..930 => ("INFO", 200, "served"),
            930..975 => ("INFO", 304, "not modified"),
            975..992 => ("WARN", 429, "turned away, too many requests"),
            _ => ("ERROR", 503, "gave up after three attempts upstream"),
        };
        let path = format!("/v1/{}/{}", pick(&mut rng, &RESOURCES), rng.u32(1_000..10_000_000));
        let duration_us = rng.u32(180..950_000);
        Event {
            id,
            time: Timestamp::from_millisecond(time_ms).map(|time| time.to_string()).unwrap_or_default(),
            service,
            level,
            host: format!("{service}-{:02}.ap-northeast-2.internal", rng.u32(0..24)),
            message: format!("{path} {outcome} in {duration_us} us"),
            request: Request {
                id: format!("{:016x}{:016x}", rng.u64(..), rng.u64(..)),
                method: pick(&mut rng, &METHODS),
                path,
                status,
                duration_us,
                bytes: rng.u32(120..65_536),
                client: Client {
                    ip: format!("10.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(1..255)),
                    country: pick(&mut rng, &COUNTRIES),
                    agent: pick(&mut rng, &AGENTS),
                },
            },
            time_ms,
        }
    }
}

impl Event {
    /// When it happened, in ms since the Unix epoch.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// The server it comes from: the record's key.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Writes it as JSON, in place of what `text` held.
    pub fn write_to(&self, text: &mut Vec<u8>) -> serde_json::Result<()> {
        text.clear();
        serde_json::to_writer(text, self)
    }

    /// The directory it belongs in, worked out here a second time: by service, then by the hour in `zone`.
    pub fn route(&self, zone: &TimeZone) -> Option<String> {
        let local = Timestamp::from_millisecond(self.time_ms).ok()?.to_zoned(zone.clone());
        Some(format!("service={}/{}", self.service, local.strftime("year=%Y/month=%m/day=%d/hour=%H")))
    }
}

fn pick(rng: &mut fastrand::Rng, from: &[&'static str]) -> &'static str {
    rng.choice(from).copied().unwrap_or_default()
}

const SEED: u64 = 0x5EED_A0E5;
/// 28 June 2025, 22:00 in Seoul: the three hours that follow include midnight there, but not in UTC.
const START_MS: i64 = 1_751_115_600_000;
const SPAN_MS: i64 = 3 * 3_600_000;
const SERVICES: [&str; 6] = ["gateway", "checkout", "orders", "riders", "search", "payments"];
const RESOURCES: [&str; 5] = ["shops", "carts", "menus", "coupons", "reviews"];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const COUNTRIES: [&str; 4] = ["KR", "KR", "JP", "VN"];
const AGENTS: [&str; 3] =
    ["app/8.4.1 (Android 15)", "app/8.4.0 (iOS 18.5)", "Mozilla/5.0 (X11; Linux x86_64)"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_event_is_a_function_of_its_identity_and_about_450_bytes_long() {
        let events = Events::at_least(1_000, 4);
        assert_eq!(events.total(), 1_000);
        let (mut text, mut again, mut bytes) = (Vec::new(), Vec::new(), 0);
        for seq in 0..events.per_partition {
            let id = Identity { partition: 3, seq };
            events.event(id).write_to(&mut text).unwrap();
            events.event(id).write_to(&mut again).unwrap();
            assert_eq!(text, again);
            assert_eq!(serde_json::from_slice::<Identity>(&text).unwrap(), id);
            bytes += text.len();
        }
        let mean = bytes / 250;
        assert!((400..=500).contains(&mean), "mean of {mean} bytes");
    }

    #[test]
    fn events_of_three_hours_in_seoul_cross_midnight() {
        let events = Events::at_least(6_000, 2);
        let zone = TimeZone::get("Asia/Seoul").unwrap();
        let ids = (0..events.per_partition).map(|seq| Identity { partition: 1, seq });
        let routes: BTreeSet<_> = ids.map(|id| events.event(id).route(&zone).unwrap()).collect();
        assert_eq!(routes.len(), SERVICES.len() * 3);
        assert_eq!(routes.first().unwrap(), "service=checkout/year=2025/month=06/day=28/hour=22");
        assert_eq!(routes.last().unwrap(), "service=search/year=2025/month=06/day=29/hour=00");
    }
}
