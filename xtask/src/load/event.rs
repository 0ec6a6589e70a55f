//! Server-log events: JSON of about 500 bytes, a function of a seed and a number.
//!
//! Each event carries what an audit needs: its number among all, its partition, and a checksum over everything before the
//! checksum. Number and partition come first and the checksum last, so that an event is checked without a JSON parser; an event
//! that is cut short, joined with another or changed anywhere is told from a whole one.

use std::io::Write as _;
use std::num::NonZeroU32;

use clap::ValueEnum;
use crc_fast::crc32_iso_hdlc;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the events of one load are. Event `i` depends on this and `i` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Another seed gives other contents, in the same places.
    pub seed: u64,
    /// How many events there are; times in order are spread over that many.
    pub records: u64,
    /// Event `i` belongs to partition `i % partitions`.
    pub partitions: NonZeroU32,
    /// Event times lie in this many hours, beginning with 2026-01-01T00:00Z.
    pub hours: NonZeroU32,
    /// How they lie there.
    pub spread: Spread,
    /// Distinct values of the field `tenant`; without it if 0.
    pub tenants: u32,
    /// Bytes of an event. What an event must hold comes to 400 to 480 bytes; shorter ones are not made.
    pub bytes: usize,
}

/// How event times lie in the hours of a [`Spec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Times ascend evenly within a partition: an hourly layout has one path open at a time.
    InOrder,
    /// Each event falls into any of the hours: an hourly layout has all its paths open all the time.
    AllOpen,
}

/// Which event a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The event's number among all of the load, from 0.
    pub seq: u64,
    /// Its partition.
    pub partition: u32,
}

/// Why a row is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It does not begin with a number and a partition, or does not end with a checksum.
    Shape,
    /// Its checksum is of other bytes.
    Checksum,
}

impl Default for Spec {
    /// The work of the benchmarks: four partitions, three hours in order, no tenants, 500 bytes.
    fn default() -> Self {
        const FOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);
        const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
        let (partitions, hours) = (FOUR, THREE);
        Self {
            seed: 1,
            records: 1_000_000,
            partitions,
            hours,
            spread: Spread::InOrder,
            tenants: 0,
            bytes: 500,
        }
    }
}

impl Spec {
    /// The partition of event `seq`.
    pub fn partition_of(&self, seq: u64) -> u32 {
        // The remainder is below a `u32`, so nothing is cut off.
        u32::try_from(seq % u64::from(self.partitions.get())).unwrap_or(u32::MAX)
    }

    /// The time of event `seq` in milliseconds since 1970.
    pub fn time_of(&self, seq: u64) -> i64 {
        let hours = u64::from(self.hours.get());
        let since_start = match self.spread {
            Spread::InOrder => {
                let partitions = u64::from(self.partitions.get());
                let of_partition = self.records.div_ceil(partitions).max(1);
                let place =
                    u128::from(seq / partitions) * u128::from(hours * HOUR_MS) / u128::from(of_partition);
                u64::try_from(place).unwrap_or(u64::MAX)
            }
            Spread::AllOpen => {
                let random = mix(self.seed ^ seq.wrapping_mul(0x51ed_270b));
                (random % hours) * HOUR_MS + mix(random) % HOUR_MS
            }
        };
        START_MS.saturating_add_unsigned(since_start)
    }

    /// Replaces what is in `event` by event `seq`.
    pub fn write(&self, seq: u64, event: &mut Vec<u8>) {
        event.clear();
        self.write_fields(seq, event);
        let checksum = crc32_iso_hdlc(event);
        put(event, format_args!("{CHECKSUM_FIELD}{checksum:08x}\"}}"));
    }

    fn write_fields(&self, seq: u64, out: &mut Vec<u8>) {
        let random = mix(self.seed.wrapping_add(seq.wrapping_mul(0x2545_f491_4f6c_dd1d)));
        // Different bits for each field, so that fields do not depend on each other.
        let bits = |shift: u32, below: u64| (random >> shift) % below;
        let time = Timestamp::from_millisecond(self.time_of(seq)).unwrap_or(Timestamp::MAX);
        let (partition, service) = (self.partition_of(seq), pick(&SERVICES, random));
        put(out, format_args!("{SEQ_FIELD}{seq}{PARTITION_FIELD}{partition},\"timestamp\":\"{time:.3}\""));
        let (level, user) = (pick(&LEVELS, random >> 3), bits(8, 1_000_000));
        put(out, format_args!(",\"service\":\"{service}\",\"level\":\"{level}\",\"user_id\":\"u{user}\""));
        if self.tenants > 0 {
            put(out, format_args!(",\"tenant\":\"t{}\"", mix(random) % u64::from(self.tenants)));
        }
        let (resource, id, status) =
            (pick(&SERVICES, random >> 20), bits(24, 100_000), pick(&STATUSES, random >> 28));
        put(out, format_args!(",\"path\":\"/api/v1/{resource}/{id}\",\"status\":{status}"));
        put(out, format_args!(",\"latency_ms\":{}.{}", bits(32, 900), 1 + bits(42, 9)));
        let (method, ip) = (pick(&METHODS, random >> 44), [bits(40, 256), bits(48, 256), bits(56, 256)]);
        let [a, b, c] = ip;
        put(
            out,
            format_args!(
                ",\"request\":{{\"method\":\"{method}\",\"host\":\"shop.example.com\",\"ip\":\"10.{a}.{b}.{c}\""
            ),
        );
        let (high, low, agent) = (mix(random ^ 0xab), mix(random ^ 0xcd), pick(&AGENTS, random >> 50));
        put(
            out,
            format_args!(
                ",\"bytes\":{},\"trace_id\":\"{high:016x}{low:016x}\",\"user_agent\":\"{agent}\"}}",
                bits(16, 65_536)
            ),
        );
        out.extend_from_slice(b",\"message\":\"");
        let end = self.bytes.saturating_sub(TRAILER_BYTES + 1);
        let (begin, mut words) = (out.len(), low);
        while out.len() < end {
            words = mix(words);
            out.extend_from_slice(pick(&WORDS, words).as_bytes());
            out.push(b' ');
        }
        out.truncate(end.max(begin));
        out.push(b'"');
    }
}

impl Identity {
    /// Reads which event `row` is, a row without its line end, and checks that it is the whole of it.
    pub fn of(row: &[u8]) -> Result<Self, Defect> {
        let (seq, rest) = row.strip_prefix(SEQ_FIELD.as_bytes()).and_then(number).ok_or(Defect::Shape)?;
        let (partition, _) =
            rest.strip_prefix(PARTITION_FIELD.as_bytes()).and_then(number).ok_or(Defect::Shape)?;
        let partition = u32::try_from(partition).map_err(|_| Defect::Shape)?;
        let fields = row.len().checked_sub(TRAILER_BYTES).ok_or(Defect::Shape)?;
        let (fields, trailer) = row.split_at_checked(fields).ok_or(Defect::Shape)?;
        let digits = trailer.strip_prefix(CHECKSUM_FIELD.as_bytes()).and_then(|it| it.strip_suffix(b"\"}"));
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok()).ok_or(Defect::Shape)?;
        // Nothing but what we write: the parser would also take a sign or capitals.
        let ours = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let checksum = u32::from_str_radix(digits, 16).ok().filter(|_| ours).ok_or(Defect::Shape)?;
        if checksum == crc32_iso_hdlc(fields) { Ok(Self { seq, partition }) } else { Err(Defect::Checksum) }
    }
}

/// The number at the front of `text`, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// Writing to a vector cannot fail.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_default();
}

fn pick<T: Copy + Default, const N: usize>(of: &[T; N], random: u64) -> T {
    usize::try_from(random % N as u64).ok().and_then(|index| of.get(index)).copied().unwrap_or_default()
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const HOUR_MS: u64 = 3_600_000;
/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

const SEQ_FIELD: &str = "{\"seq\":";
const PARTITION_FIELD: &str = ",\"partition\":";
const CHECKSUM_FIELD: &str = ",\"crc\":\"";
/// The checksum's field, its eight digits and the closing quote and brace.
const TRAILER_BYTES: usize = CHECKSUM_FIELD.len() + 8 + 2;

const SERVICES: [&str; 8] =
    ["checkout", "search", "auth", "catalog", "payments", "gateway", "profile", "inventory"];
const LEVELS: [&str; 8] = ["INFO", "INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"];
const METHODS: [&str; 6] = ["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const STATUSES: [u16; 10] = [200, 200, 200, 200, 201, 204, 301, 400, 404, 500];
const AGENTS: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148",
    "okhttp/4.12.0",
    "curl/8.7.1",
    "python-requests/2.32.3",
];
const WORDS: [&str; 24] = [
    "request",
    "completed",
    "upstream",
    "timeout",
    "cache",
    "miss",
    "hit",
    "retry",
    "connection",
    "pool",
    "exhausted",
    "session",
    "token",
    "refreshed",
    "order",
    "placed",
    "item",
    "reserved",
    "shard",
    "replica",
    "lag",
    "flush",
    "queue",
    "limit",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn event(spec: &Spec, seq: u64) -> Vec<u8> {
        let mut event = b"leftover".to_vec();
        spec.write(seq, &mut event);
        event
    }

    #[test]
    fn an_event_depends_on_the_seed_and_its_number_alone() {
        let spec = Spec::default();
        let again: Vec<_> = (0..50).rev().map(|seq| event(&spec, seq)).collect();
        for (seq, other) in (0..50).zip(again.iter().rev()) {
            assert_eq!(&event(&spec, seq), other);
        }
        assert_ne!(event(&spec, 7), event(&Spec { seed: 2, ..spec }, 7));
    }

    #[test]
    fn an_event_is_json_of_the_wanted_size_with_every_field() {
        let spec = Spec { tenants: 10, ..Spec::default() };
        for seq in 0..2_000 {
            let event = event(&spec, seq);
            assert_eq!(event.len(), 500);
            let json: serde_json::Value = serde_json::from_slice(&event).unwrap();
            assert_eq!(json["seq"], seq);
            assert_eq!(json["partition"], seq % 4);
            let time: Timestamp = json["timestamp"].as_str().unwrap().parse().unwrap();
            assert_eq!(time.as_millisecond(), spec.time_of(seq));
            for field in
                ["service", "level", "user_id", "tenant", "path", "status", "latency_ms", "message", "crc"]
            {
                assert!(!json[field].is_null(), "{field} of {json}");
            }
            for field in ["method", "host", "ip", "bytes", "trace_id", "user_agent"] {
                assert!(!json["request"][field].is_null(), "request.{field} of {json}");
            }
        }
    }

    #[test]
    fn tenants_and_services_take_all_their_values() {
        let spec = Spec { tenants: 100, ..Spec::default() };
        let values = |field: &str| -> BTreeSet<String> {
            let json = (0..4_000)
                .map(|seq| serde_json::from_slice::<serde_json::Value>(&event(&spec, seq)).unwrap());
            json.map(|json| json[field].to_string()).collect()
        };
        assert_eq!(values("tenant").len(), 100);
        assert_eq!(values("service").len(), SERVICES.len());
        let without: serde_json::Value = serde_json::from_slice(&event(&Spec::default(), 0)).unwrap();
        assert!(without.get("tenant").is_none());
    }

    #[test]
    fn times_in_order_ascend_within_a_partition_and_fill_the_hours_evenly() {
        let spec = Spec { records: 12_000, ..Spec::default() };
        let mut of_hour = [0; 3];
        for seq in 0..spec.records {
            assert!(seq < 4 || spec.time_of(seq) >= spec.time_of(seq - 4));
            of_hour[usize::try_from((spec.time_of(seq) - START_MS) / 3_600_000).unwrap()] += 1;
        }
        assert_eq!(of_hour, [4_000; 3]);
    }

    #[test]
    fn all_hours_are_open_from_the_beginning() {
        let spec = Spec { spread: Spread::AllOpen, records: 1_000_000, ..Spec::default() };
        let hours: BTreeSet<i64> = (0..40).map(|seq| (spec.time_of(seq) - START_MS) / 3_600_000).collect();
        assert_eq!(hours, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn an_identity_survives_and_no_changed_byte_does() {
        let whole = event(&Spec::default(), 123_457);
        assert_eq!(Identity::of(&whole), Ok(Identity { seq: 123_457, partition: 1 }));
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            for bit in [0x01, 0x20] {
                changed[index] = whole[index] ^ bit;
                assert!(Identity::of(&changed).is_err(), "byte {index}");
            }
            assert!(Identity::of(&whole[..index]).is_err(), "cut at {index}");
        }
        let other = event(&Spec::default(), 5);
        assert_eq!(Identity::of(&[whole, other].concat()), Err(Defect::Checksum));
        assert_eq!(Identity::of(b""), Err(Defect::Shape));
    }
}
