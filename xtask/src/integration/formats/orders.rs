//! The records of these scenarios: orders in Avro, whose number says everything of them, in as many versions of their schema as
//! it takes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use apache_avro::Schema;
use aqueduct::convert::registry::SchemaKind;
use aqueduct::schema_registry::{NewSchema, RegistryClient};
use serde_json::{Value, json};
use xtask::readers::{Cell, Unit};

use crate::integration::matrix::avro;

/// A version of the orders' schema, from 1. The second brings a currency, a voucher, wider quantities and gifts; the third drops the
/// note and brings a channel; each further one brings one more field that may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version(pub(crate) u32);

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) number: u64,
    /// What its producer wrote.
    pub(crate) version: Version,
}

/// Where orders are from, which decides their path: one has to be escaped.
const CITIES: [&str; 3] = ["Seoul", "Zürich", "a=b"];
const ROUTES: [&str; 3] = ["city=Seoul", "city=Zürich", "city=a%3Db"];
/// 1 November 2026.
const START_MS: i64 = 1_793_491_200_000;

impl Version {
    /// Whether it has a field, or a change of one, that came with version `of`.
    fn has(self, of: u32) -> bool {
        self.0 >= of
    }

    /// The text of its schema.
    pub(crate) fn text(self) -> String {
        let maybe = |name: &str| json!({"name": name, "type": ["null", "string"], "default": null});
        let mut item =
            vec![json!({"name": "sku", "type": "string"}), json!({"name": "count", "type": "int"})];
        if self.has(2) {
            item.push(json!({"name": "gift", "type": "boolean", "default": false}));
        }
        let logical = |kind: &str, of: &str| json!({"type": kind, "logicalType": of});
        let mut fields = vec![
            json!({"name": "id", "type": "long"}),
            json!({"name": "city", "type": "string"}),
            json!({"name": "at", "type": logical("long", "timestamp-millis")}),
            json!({"name": "day", "type": logical("int", "date")}),
            json!({"name": "ref", "type": logical("string", "uuid")}),
            json!({"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}}),
            json!({"name": "quantity", "type": if self.has(2) { "long" } else { "int" }}),
            json!({"name": "items", "type": {"type": "array", "items":
                {"type": "record", "name": "Item", "fields": item}}}),
        ];
        if self.has(2) {
            fields.push(json!({"name": "currency", "type": "string", "default": "EUR"}));
            fields.push(maybe("voucher"));
        }
        if self.has(3) {
            fields.push(json!({"name": "channel", "default": "WEB",
                "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "SHOP"]}}));
        } else {
            fields.push(maybe("note"));
        }
        fields.extend((4..=self.0).map(|more| maybe(&format!("more_{more}"))));
        let schema: Value = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": fields});
        schema.to_string()
    }

    /// Which version a row was written as, by the columns it has.
    pub(crate) fn of_row(row: &Cell) -> Self {
        let more = (4..64).take_while(|more| row.member(&format!("more_{more}")).is_some()).count();
        let more = u32::try_from(more).unwrap_or(0);
        match (row.member("channel"), row.member("currency")) {
            (Some(_), _) => Self(3 + more),
            (None, Some(_)) => Self(2),
            (None, None) => Self(1),
        }
    }
}

impl Order {
    fn n(self) -> i64 {
        self.number.cast_signed()
    }

    /// Which of the cities.
    fn city(self) -> usize {
        // Not in step with versions or partitions.
        usize::try_from(self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).unwrap_or(0) % CITIES.len()
    }

    /// The path it belongs in.
    pub(crate) fn route(self) -> &'static str {
        ROUTES.get(self.city()).copied().unwrap_or_default()
    }

    /// The row of it in a file of version `file`: what that version has and the order does not takes its default, what it does
    /// not have is left out.
    pub(crate) fn row(self, file: Version) -> Cell {
        let Self { number, version } = self;
        let n = self.n();
        let text = |text: String| Cell::text(text);
        let one_in = |of: u64, cell: Cell| if number.is_multiple_of(of) { cell } else { Cell::Null };
        let mut members = vec![
            ("id", Cell::Int(n.into())),
            ("city", Cell::text(CITIES.get(self.city()).copied().unwrap_or_default())),
            ("at", Cell::Timestamp(START_MS + n * 7, Unit::Millis, true)),
            ("day", Cell::Date(20_000 + n % 400)),
            ("ref", Cell::Uuid(format!("00000000-0000-4000-8000-{number:012x}"))),
            ("amount", Cell::Decimal(cents((n - 10_000) * 12_345 % 1_000_000_000))),
            ("quantity", Cell::Int((n % 1_000 - 500).into())),
            ("items", Cell::List((0..number % 3).map(|index| item(index, version, file)).collect())),
        ];
        if file.has(2) {
            let (currency, voucher) = if version.has(2) {
                let currency = if number.is_multiple_of(2) { "SEK" } else { "CHF" };
                (currency, one_in(7, text(format!("V{number}"))))
            } else {
                ("EUR", Cell::Null)
            };
            members.extend([("currency", Cell::text(currency)), ("voucher", voucher)]);
        }
        if file.has(3) {
            let is_shop = version.has(3) && number.is_multiple_of(2);
            members.push(("channel", Cell::text(if is_shop { "SHOP" } else { "WEB" })));
        } else {
            members.push(("note", one_in(5, text(format!("note of {number}, ünï")))));
        }
        let more = (4..=file.0).map(|more| {
            let there = version.has(more) && number.is_multiple_of(3);
            (format!("more_{more}"), if there { text(format!("{more} of {number}")) } else { Cell::Null })
        });
        Cell::record(members.into_iter().map(|(name, cell)| (name.to_owned(), cell)).chain(more))
    }
}

fn item(index: u64, version: Version, file: Version) -> Cell {
    let mut item =
        vec![("sku", Cell::text(format!("sku-{index}"))), ("count", Cell::Int(i128::from(index) + 1))];
    if file.has(2) {
        item.push(("gift", Cell::Bool(version.has(2) && index == 1)));
    }
    Cell::record(item)
}

/// Hundredths with a point.
fn cents(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
}

/// The versions that a registry knows, and how orders are written in each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions {
    known: BTreeMap<Version, (u32, Schema)>,
}

impl Versions {
    /// Registers the first `count`, one after the other, under the subject of a topic.
    pub(crate) async fn register(url: &str, topic: &str, count: u32) -> Result<Self> {
        let client = RegistryClient::builder(url).build()?;
        let mut known = BTreeMap::new();
        for version in (1..=count).map(Version) {
            let text = version.text();
            let schema = NewSchema::new(SchemaKind::Avro, &text);
            let id = client.register(&format!("{topic}-value"), &schema).await;
            known.insert(version, (id?, Schema::parse_str(&text)?));
        }
        Ok(Self { known })
    }

    /// In Confluent's wire format, by an encoder that is not ours.
    pub(crate) fn encode(&self, order: Order) -> Result<Vec<u8>> {
        let (id, schema) = self.known.get(&order.version).context("the version is not registered")?;
        let mut bytes = framed(*id);
        bytes.extend(avro::datum_of(&order.row(order.version), schema)?);
        Ok(bytes)
    }

    /// The version that a record in the wire format names; none if it is none of these.
    pub(crate) fn named_by(&self, value: &[u8]) -> Option<Version> {
        let id = u32::from_be_bytes(value.get(1..5)?.try_into().ok()?);
        self.known.iter().find(|(_, (known, _))| *known == id).map(|(version, _)| *version)
    }
}

/// What stands in front of a datum.
pub(crate) fn framed(id: u32) -> Vec<u8> {
    let [a, b, c, d] = id.to_be_bytes();
    vec![0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_the_rows_that_its_schema_takes() {
        for version in (1..=6).map(Version) {
            let schema = Schema::parse_str(&version.text()).unwrap();
            for number in 0..40 {
                let row = Order { number, version }.row(version);
                assert!(!avro::datum_of(&row, &schema).unwrap().is_empty());
                assert_eq!(Version::of_row(&row), version);
            }
        }
    }

    #[test]
    fn an_older_order_is_shown_with_the_defaults_of_the_newer_file() {
        let row = Order { number: 35, version: Version(1) }.row(Version(3));
        assert_eq!(row.member("currency"), Some(&Cell::text("EUR")));
        assert_eq!(row.member("voucher"), Some(&Cell::Null));
        assert_eq!(row.member("channel"), Some(&Cell::text("WEB")));
        assert_eq!(row.member("note"), None, "the newer version has none");
        let newer = Order { number: 35, version: Version(2) }.row(Version(3));
        assert_eq!(newer.member("voucher"), Some(&Cell::text("V35")));
    }
}
