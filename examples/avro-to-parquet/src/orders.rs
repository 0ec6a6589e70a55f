//! The orders, and the two versions of their schema. Written with `apache-avro`, as producers would, and not with the
//! converter that is to read them.

use anyhow::{Context as _, Result};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Schema};

/// What producers began with.
pub const V1: &str = r#"{
    "type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "customer", "type": "string"},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
            {"name": "sku", "type": "string"},
            {"name": "quantity", "type": "int"}]}}},
        {"name": "note", "type": ["null", "string"], "default": null}]}"#;

/// What half of them write by now: with a currency, which used to be euros, and perhaps a voucher.
pub const V2: &str = r#"{
    "type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "customer", "type": "string"},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "currency", "type": "string", "default": "EUR"},
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
            {"name": "sku", "type": "string"},
            {"name": "quantity", "type": "int"}]}}},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "voucher", "type": ["null", "string"], "default": null}]}"#;

/// Days that orders are placed on, from 1 November 2026, 00:00 UTC.
const DAYS: u32 = 3;
const FIRST_DAY_MS: i64 = 1_793_491_200_000;
const DAY_MS: i64 = 86_400_000;

/// An order; its number says everything.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub number: u32,
}

impl Order {
    pub fn all(orders: u32) -> impl Iterator<Item = Self> {
        (0..orders).map(|number| Self { number })
    }

    /// Whether its producer writes the second version: every other one does.
    pub fn is_v2(self) -> bool {
        self.number % 2 == 1
    }

    /// Whether it is cut short on its way into Kafka.
    pub fn is_damaged(self) -> bool {
        self.number % 500 == 499
    }

    pub fn placed_at_ms(self) -> i64 {
        FIRST_DAY_MS + i64::from(self.number % DAYS) * DAY_MS + i64::from(self.number) * 7
    }

    /// The directory it belongs in.
    pub fn day(self) -> String {
        format!("year=2026/month=11/day={:02}", 1 + self.number % DAYS)
    }

    /// Hundredths of the total: up to ten digits before the point, and refunds.
    pub fn cents(self) -> i64 {
        (i64::from(self.number) - 10_000) * 12_345
    }

    pub fn customer(self) -> String {
        format!("customer-{}-é", self.number % 97)
    }

    pub fn currency(self) -> &'static str {
        match (self.is_v2(), self.number % 3) {
            (true, 0) => "SEK",
            (true, 1) => "CHF",
            _ => "EUR",
        }
    }

    pub fn items(self) -> impl Iterator<Item = (String, i32)> {
        (0..self.number % 4).map(move |item| (format!("sku-{item}"), i32::try_from(item).unwrap_or(0) + 1))
    }

    pub fn note(self) -> Option<String> {
        (self.number.is_multiple_of(5)).then(|| format!("note of {}", self.number))
    }

    pub fn voucher(self) -> Option<String> {
        (self.is_v2() && self.number.is_multiple_of(7)).then(|| format!("V{}", self.number))
    }

    fn value(self) -> Value {
        let text = |text: Option<String>| match text {
            Some(text) => Value::Union(1, Box::new(Value::String(text))),
            None => Value::Union(0, Box::new(Value::Null)),
        };
        let item = |(sku, quantity)| {
            Value::Record(vec![
                ("sku".to_owned(), Value::String(sku)),
                ("quantity".to_owned(), Value::Int(quantity)),
            ])
        };
        let mut fields = vec![
            ("id", Value::Long(i64::from(self.number))),
            ("placed_at", Value::TimestampMillis(self.placed_at_ms())),
            ("customer", Value::String(self.customer())),
            ("total", Value::Decimal(Decimal::from(self.cents().to_be_bytes()))),
        ];
        if self.is_v2() {
            fields.push(("currency", Value::String(self.currency().to_owned())));
        }
        fields.push(("items", Value::Array(self.items().map(item).collect())));
        fields.push(("note", text(self.note())));
        if self.is_v2() {
            fields.push(("voucher", text(self.voucher())));
        }
        Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// Writes orders in Confluent's wire format.
pub struct Encoder {
    schemas: [(u32, Schema); 2],
}

impl Encoder {
    /// With the ids that the registry gave the two versions.
    pub fn new(v1: u32, v2: u32) -> Result<Self> {
        let parse = |text| Schema::parse_str(text).context("the schema is no Avro");
        Ok(Self { schemas: [(v1, parse(V1)?), (v2, parse(V2)?)] })
    }

    pub fn encode(&self, order: Order) -> Result<Vec<u8>> {
        let (id, schema) = &self.schemas[usize::from(order.is_v2())];
        let mut bytes = vec![0];
        bytes.extend_from_slice(&id.to_be_bytes());
        let writer = GenericDatumWriter::builder(schema).build()?;
        let datum = writer.write_value_to_vec(order.value());
        bytes.extend(datum.context("the order does not fit its schema")?);
        if order.is_damaged() {
            bytes.truncate(bytes.len() - 3);
        }
        Ok(bytes)
    }
}
