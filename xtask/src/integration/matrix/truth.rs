//! What is produced: records that follow from a seed and their place, with every kind of value there is, at its edges.

use xtask::readers::{Cell, Unit};

/// Where a record comes from, which is all that its value depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) seed: u64,
    pub(super) partition: i32,
    pub(super) seq: i64,
}

/// Digits after the point of the field `amount`.
pub(super) const AMOUNT_SCALE: u32 = 4;
/// The fields of a record, in the order of every schema.
pub(super) const FIELDS: [&str; 23] = [
    "seq",
    "partition",
    "flag",
    "small",
    "big",
    "ratio",
    "single",
    "amount",
    "note",
    "raw",
    "id",
    "day",
    "clock",
    "at",
    "at_us",
    "local",
    "color",
    "place",
    "maybe",
    "tags",
    "scores",
    "items",
    "choice",
];
/// What the field `color` may hold.
pub(super) const COLORS: [&str; 3] = ["RED", "GREEN", "BLUE"];
/// Routes by field lead to these: one has to be escaped, one is no ASCII.
const CITIES: [&str; 4] = ["Seoul", "a/b=c", "Zürich", "100%"];

/// The last microsecond of the year 9999: how many say that there is no end.
const LAST_US: i64 = 253_402_300_799_999_999;
const HOUR_MS: i64 = 3_600_000;
/// 2026-01-01T00:00:00Z, in milliseconds.
const START_MS: i64 = 1_767_225_600_000;

impl Place {
    /// The record's value, with the kinds of its fields.
    pub(super) fn value(self) -> Cell {
        let draw = Draw(mix(
            self.seed ^ mix(self.seq.cast_unsigned() << 8 | u64::from(self.partition.cast_unsigned()))
        ));
        let int = |value: i64| Cell::Int(i128::from(value));
        let unless = |salt, cell| if draw.one_in(salt, 4) { Cell::Null } else { cell };
        let item = |salt| {
            let sku = format!("sku-{}", draw.below(salt, 1_000));
            Cell::record([
                ("sku", Cell::text(sku)),
                ("count", Cell::Int(i128::from(draw.below(salt + 1, 9)))),
            ])
        };
        let (latitude, longitude) =
            (draw.of(30, &[37.5, -90.0, 0.1, 1.0 / 3.0]), draw.of(31, &[127.0, -180.0, 1e-9]));
        let place = Cell::record([
            ("city", Cell::text(draw.of(32, &CITIES))),
            ("at", Cell::record([("lat", Cell::f64(latitude)), ("lon", Cell::f64(longitude))])),
        ]);
        let count = |salt: u64, most: u64| draw.below(salt, most + 1);
        let choice = match draw.below(33, 3) {
            0 => int(draw.of(34, &[0, -1, 1 << 40])),
            1 => Cell::text(draw.of(34, &["seven", "", "7"])),
            _ => item(35),
        };
        let members = [
            int(self.seq),
            int(i64::from(self.partition)),
            Cell::Bool(draw.one_in(1, 2)),
            int(i64::from(draw.of(2, &[0, -1, i32::MIN, i32::MAX, 42]))),
            int(draw.of(3, &[0, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1])),
            Cell::f64(draw.of(4, &[0.0, -0.0, 1e-300, f64::MAX, f64::MIN_POSITIVE / 4.0, 0.1, -2.5])),
            Cell::f32(draw.of(5, &[0.0, -0.0, 1e-30, f32::MAX, 0.1, 16_777_216.0])),
            Cell::Decimal(draw.of(6, &AMOUNTS).to_owned()),
            unless(7, Cell::text(draw.of(8, &NOTES))),
            Cell::Bytes(draw.of(9, &BYTES).to_vec()),
            Cell::Uuid(uuid(mix(draw.0), mix(draw.0 ^ 1))),
            Cell::Date(draw.of(10, &[0, -1, -719_162, 2_932_896, 20_454])),
            Cell::Time(draw.of(11, &[0, 86_399_999_999, 1, 43_200_000_000]), Unit::Micros),
            Cell::Timestamp(timestamp_in_value(draw), Unit::Millis, true),
            Cell::Timestamp(draw.of(12, &[0, -1, -62_135_596_800_000_000, LAST_US, 7]), Unit::Micros, true),
            Cell::Timestamp(
                draw.of(13, &[0, -1, 951_782_400_000_001, -62_135_596_800_000_000]),
                Unit::Micros,
                false,
            ),
            Cell::text(draw.of(14, &COLORS)),
            place,
            unless(
                15,
                Cell::record([
                    ("why", unless(16, Cell::text("because"))),
                    ("level", int(draw.of(17, &[0, 9]))),
                ]),
            ),
            Cell::List((0..count(18, 3)).map(|index| Cell::text(draw.of(19 + index, &NOTES))).collect()),
            Cell::map((0..count(22, 3)).map(|index| {
                (
                    SCORES.get(usize::try_from(index).unwrap_or_default()).copied().unwrap_or("?"),
                    int(draw.of(23 + index, &[0, i64::MIN, i64::MAX])),
                )
            })),
            Cell::List((0..count(26, 2)).map(|index| item(40 + 2 * index)).collect()),
            choice,
        ];
        Cell::record(FIELDS.into_iter().zip(members))
    }

    /// The record's own timestamp, in milliseconds: over three hours, all of them open at a time.
    pub(super) fn timestamp(self) -> i64 {
        START_MS
            + mix(self.seed ^ self.seq.cast_unsigned()).cast_signed().rem_euclid(3) * HOUR_MS
            + self.seq % HOUR_MS
    }
}

/// The time in the field `at`: of other hours than the record's.
fn timestamp_in_value(draw: Draw) -> i64 {
    let below = |salt, end| i64::try_from(draw.below(salt, end)).unwrap_or_default();
    START_MS + below(50, 4) * 24 * HOUR_MS + below(51, 3_600_000)
}

const AMOUNTS: [&str; 7] = [
    "0.0000",
    "-0.0001",
    "9999999999999999.9999",
    "-9999999999999999.9999",
    "1.5000",
    "12345.6789",
    "-128.0000",
];
const NOTES: [&str; 6] =
    ["", "plain", "ünï 𝄞 \u{200d}", "quote \" backslash \\ slash /", "line\nbreak\r\ttab", ",;\u{1}"];
const BYTES: [&[u8]; 4] = [b"", b"\x00\xff", b"text", &[0x80; 40]];
/// `DuckDB` has no members without a name, and these may become members.
const SCORES: [&str; 3] = ["alpha", "b c", "ключ.с точкой"];

/// Deterministic choice.
#[derive(Clone, Copy)]
struct Draw(u64);

impl Draw {
    fn below(self, salt: u64, end: u64) -> u64 {
        mix(self.0 ^ salt.wrapping_mul(0x2545_f491_4f6c_dd1d)) % end.max(1)
    }

    fn one_in(self, salt: u64, of: u64) -> bool {
        self.below(salt, of) == 0
    }

    fn of<T: Copy>(self, salt: u64, values: &[T]) -> T {
        let index = usize::try_from(self.below(salt, values.len() as u64)).unwrap_or_default();
        #[expect(clippy::indexing_slicing, reason = "below the length, and the tables are not empty")]
        values[index]
    }
}

fn uuid(high: u64, low: u64) -> String {
    let digits = format!("{high:016x}{low:016x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| digits.get(part).unwrap_or_default().to_owned()).join("-")
}

/// The finaliser of splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_value_follows_from_its_place_and_every_edge_is_met() {
        let place = |seq| Place { seed: 1, partition: 0, seq };
        assert_eq!(place(3).value(), place(3).value());
        let values: Vec<Cell> = (0..150).map(|seq| place(seq).value()).collect();
        let distinct =
            |name: &str| values.iter().filter_map(|value| value.member(name)).collect::<BTreeSet<_>>().len();
        let wanted = [
            ("flag", 2),
            ("small", 5),
            ("big", 6),
            ("ratio", 7),
            ("single", 6),
            ("amount", AMOUNTS.len()),
            ("note", NOTES.len() + 1),
            ("raw", BYTES.len()),
            ("day", 5),
            ("clock", 4),
            ("at_us", 5),
            ("local", 4),
            ("color", 3),
        ];
        for (name, count) in wanted {
            assert_eq!(distinct(name), count, "{name}");
        }
        let empty = |name: &str| {
            values.iter().any(|value| matches!(value.member(name), Some(Cell::List(it)) if it.is_empty()))
        };
        assert!(empty("tags") && empty("items"));
        let hours: BTreeSet<i64> = (0..150).map(|seq| place(seq).timestamp() / HOUR_MS).collect();
        assert_eq!(hours.len(), 3);
    }
}
