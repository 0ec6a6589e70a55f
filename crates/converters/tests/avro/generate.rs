//! Schemas of any shape, and values of any schema, out of entropy that shrinks.

use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Schema, UuidSchema};
use apache_avro::types::Value;
use apache_avro::{Days, Decimal, Duration, Millis, Months, Uuid};
use serde_json::{Value as Json, json};

use super::tree::{Named, resolve};

/// Decisions; all zero at the end.
pub(crate) struct Entropy<'e>(pub(crate) &'e [u8]);

impl Entropy<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn number(&mut self) -> i64 {
        let bytes = self.below(9);
        (0..bytes).fold(0, |number, _| number << 8 | i64::from(self.byte())).wrapping_sub(1 << 6)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    fn text(&mut self) -> String {
        let length = self.below(6);
        (0..length).map(|_| ['a', 'b', '.', '\\', '"', '\n', 'é', '한'][self.below(8)]).collect()
    }
}

/// Makes schemas; every definition has a name of its own.
#[derive(Default)]
pub(crate) struct Schemas {
    count: usize,
    /// Definitions that are complete.
    done: Vec<String>,
}

impl Schemas {
    pub(crate) fn schema(&mut self, entropy: &mut Entropy<'_>, depth: usize) -> Json {
        self.inside(entropy, depth, &mut Vec::new())
    }

    fn inside(&mut self, entropy: &mut Entropy<'_>, depth: usize, around: &mut Vec<String>) -> Json {
        let annotated = |of: &str, logical: &str| json!({"type": of, "logicalType": logical});
        match entropy.below(if depth == 0 { 24 } else { 32 }) {
            0 => json!("null"),
            1 => json!("boolean"),
            2 => json!("int"),
            3 => json!("long"),
            4 => json!("float"),
            5 => json!({"type": "double"}),
            6 => json!("bytes"),
            7 => json!("string"),
            8 => annotated("int", "date"),
            9 => annotated("int", "time-millis"),
            10 => annotated("long", "time-micros"),
            11 => annotated("long", "timestamp-millis"),
            12 => annotated("long", "timestamp-micros"),
            13 => annotated("long", "timestamp-nanos"),
            14 => annotated("long", "local-timestamp-millis"),
            15 => annotated("long", "local-timestamp-micros"),
            16 => annotated("long", "local-timestamp-nanos"),
            17 => annotated("string", "uuid"),
            18 => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": entropy.below(30)})
            }
            19 => {
                json!({"type": "fixed", "name": self.name(), "size": 9,
                    "logicalType": "decimal", "precision": 12, "scale": 3})
            }
            20 => json!({"type": "fixed", "name": self.name(), "size": 16, "logicalType": "uuid"}),
            21 => json!({"type": "fixed", "name": self.name(), "size": 12, "logicalType": "duration"}),
            22 => {
                let name = self.name();
                self.done.push(name.clone());
                json!({"type": "fixed", "name": name, "size": entropy.below(20)})
            }
            23 => {
                let name = self.name();
                self.done.push(name.clone());
                let symbols = &["A", "B", "C"][..=entropy.below(3)];
                json!({"type": "enum", "name": name, "symbols": symbols})
            }
            24 => json!({"type": "array", "items": self.inside(entropy, depth - 1, around)}),
            25 => json!({"type": "map", "values": self.inside(entropy, depth - 1, around)}),
            26 | 27 => {
                let mut branches: Vec<Json> = Vec::new();
                for _ in 0..=entropy.below(4) {
                    let done = self.done.len();
                    let branch = self.inside(entropy, depth - 1, around);
                    if !branch.is_array() && branches.iter().all(|other| label(other) != label(&branch)) {
                        branches.push(branch);
                    } else {
                        // Left out, with what it defines.
                        self.done.truncate(done);
                    }
                }
                // A union of one union is none.
                if branches.is_empty() { json!(["null", "long"]) } else { Json::Array(branches) }
            }
            28 => match around.last() {
                // Optional: else no value would ever end.
                Some(name) => json!(["null", name]),
                None => json!(["null", "string"]),
            },
            29 if !self.done.is_empty() => {
                let index = entropy.below(self.done.len());
                json!(self.done[index])
            }
            _ => {
                let name = self.name();
                around.push(name.clone());
                let fields: Vec<Json> = (0..entropy.below(5))
                    .map(|index| json!({"name": format!("f{index}"), "type": self.inside(entropy, depth - 1, around)}))
                    .collect();
                around.pop();
                self.done.push(name.clone());
                json!({"type": "record", "name": name, "fields": fields})
            }
        }
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("n{}.T{}", self.count % 2, self.count)
    }
}

/// What a branch is called in a union.
fn label(schema: &Json) -> &Json {
    match schema {
        Json::Object(object) => object.get("name").unwrap_or(&object["type"]),
        other => other,
    }
}

pub(crate) fn value(schema: &Schema, named: &Named<'_>, entropy: &mut Entropy<'_>, depth: usize) -> Value {
    let long = |entropy: &mut Entropy<'_>| entropy.number();
    let int = |entropy: &mut Entropy<'_>| i32::try_from(entropy.number() >> 32).unwrap();
    match resolve(schema, named) {
        Schema::Null => Value::Null,
        Schema::Boolean => Value::Boolean(entropy.below(2) == 1),
        Schema::Int => Value::Int(int(entropy)),
        Schema::Long => Value::Long(long(entropy)),
        Schema::Float => {
            Value::Float(f32::from_bits(u32::from_be_bytes(entropy.bytes(4).try_into().unwrap())))
        }
        Schema::Double => {
            Value::Double(f64::from_bits(u64::from_be_bytes(entropy.bytes(8).try_into().unwrap())))
        }
        Schema::Bytes => {
            let length = entropy.below(40);
            Value::Bytes(entropy.bytes(length))
        }
        Schema::String => Value::String(entropy.text()),
        Schema::Date => Value::Date(int(entropy)),
        Schema::TimeMillis => Value::TimeMillis(int(entropy)),
        Schema::TimeMicros => Value::TimeMicros(long(entropy)),
        Schema::TimestampMillis => Value::TimestampMillis(long(entropy)),
        Schema::TimestampMicros => Value::TimestampMicros(long(entropy)),
        Schema::TimestampNanos => Value::TimestampNanos(long(entropy)),
        Schema::LocalTimestampMillis => Value::LocalTimestampMillis(long(entropy)),
        Schema::LocalTimestampMicros => Value::LocalTimestampMicros(long(entropy)),
        Schema::LocalTimestampNanos => Value::LocalTimestampNanos(long(entropy)),
        Schema::Uuid(UuidSchema::String | UuidSchema::Fixed(_)) => {
            Value::Uuid(Uuid::from_slice(&entropy.bytes(16)).unwrap())
        }
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => {
            Value::Decimal(Decimal::from(entropy.bytes(fixed.size)))
        }
        Schema::Decimal(_) => {
            let length = 1 + entropy.below(12);
            Value::Decimal(Decimal::from(entropy.bytes(length)))
        }
        Schema::Duration(_) => {
            let mut part = || u32::from_be_bytes(entropy.bytes(4).try_into().unwrap());
            Value::Duration(Duration::new(Months::new(part()), Days::new(part()), Millis::new(part())))
        }
        Schema::Fixed(fixed) => Value::Fixed(fixed.size, entropy.bytes(fixed.size)),
        Schema::Enum(of) => {
            let index = entropy.below(of.symbols.len());
            Value::Enum(u32::try_from(index).unwrap(), of.symbols[index].clone())
        }
        Schema::Array(array) => {
            let length = if depth == 0 { 0 } else { entropy.below(4) };
            Value::Array((0..length).map(|_| value(&array.items, named, entropy, depth - 1)).collect())
        }
        Schema::Map(map) => {
            let length = if depth == 0 { 0 } else { entropy.below(4) };
            let entry = |_| (entropy.text(), value(&map.types, named, entropy, depth - 1));
            Value::Map((0..length).map(entry).collect())
        }
        Schema::Union(union) => {
            let index = if depth == 0 { 0 } else { entropy.below(union.variants().len()) };
            let inner = value(&union.variants()[index], named, entropy, depth.saturating_sub(1));
            Value::Union(u32::try_from(index).unwrap(), Box::new(inner))
        }
        Schema::Record(record) => Value::Record(
            record
                .fields
                .iter()
                .map(|field| {
                    (field.name.clone(), value(&field.schema, named, entropy, depth.saturating_sub(1)))
                })
                .collect(),
        ),
        other => panic!("{other:?}"),
    }
}
