//! The parsing canonical form of a schema and its fingerprint, by which single-object encoding names schemas.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::schema::{AvroSchema, Type, TypeId};

/// CRC-64-AVRO (Rabin) over the canonical form.
///
/// Only for schemas that were [declared](super::declare::declare): that bounds how deep they nest.
pub(super) fn fingerprint(schema: &AvroSchema) -> u64 {
    rabin(canonical_form(schema).as_bytes())
}

pub(super) fn canonical_form(schema: &AvroSchema) -> String {
    let mut out = String::new();
    write_type(schema, schema.root(), &mut HashSet::new(), &mut out);
    out
}

fn write_type(schema: &AvroSchema, id: TypeId, written: &mut HashSet<TypeId>, out: &mut String) {
    let of = schema.get(id);
    if let Some(name) = of.name()
        && !written.insert(id)
    {
        write_text(&name.full, out);
        return;
    }
    match of {
        Type::Array(items) => {
            out.push_str(r#"{"type":"array","items":"#);
            write_type(schema, *items, written, out);
            out.push('}');
        }
        Type::Map(values) => {
            out.push_str(r#"{"type":"map","values":"#);
            write_type(schema, *values, written, out);
            out.push('}');
        }
        Type::Union(branches) => {
            out.push('[');
            for (index, branch) in branches.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_type(schema, *branch, written, out);
            }
            out.push(']');
        }
        Type::Record(record) => {
            out.push_str(r#"{"name":"#);
            write_text(&record.name.full, out);
            out.push_str(r#","type":"record","fields":["#);
            for (index, field) in record.fields.iter().enumerate() {
                out.push_str(if index > 0 { r#",{"name":"# } else { r#"{"name":"# });
                write_text(&field.name, out);
                out.push_str(r#","type":"#);
                write_type(schema, field.of, written, out);
                out.push('}');
            }
            out.push_str("]}");
        }
        Type::Enum(enumeration) => {
            out.push_str(r#"{"name":"#);
            write_text(&enumeration.name.full, out);
            out.push_str(r#","type":"enum","symbols":["#);
            for (index, symbol) in enumeration.symbols.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_text(symbol, out);
            }
            out.push_str("]}");
        }
        Type::Fixed(fixed) => {
            out.push_str(r#"{"name":"#);
            write_text(&fixed.name.full, out);
            // Writing to a string cannot fail.
            write!(out, r#","type":"fixed","size":{}}}"#, fixed.size).ok();
        }
        primitive => write_text(primitive.label(), out),
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// The fingerprint of no bytes, and the polynomial.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

const TABLE: [u64; 256] = table();

#[expect(clippy::indexing_slicing, reason = "evaluated when this is compiled")]
const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u64;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (EMPTY & (value & 1).wrapping_neg());
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

fn rabin(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |sum, &byte| {
        let index = (sum & 0xff) as usize ^ usize::from(byte);
        (sum >> 8) ^ TABLE.get(index).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_the_specification() {
        // From the Avro project's own table of test cases.
        for (schema, expected) in
            [(r#""null""#, 7_195_948_357_588_979_594_i64), (r#""int""#, 8_247_732_601_305_521_295)]
        {
            let schema = AvroSchema::parse(schema, []).unwrap();
            assert_eq!(fingerprint(&schema).cast_signed(), expected);
        }
    }

    #[test]
    fn the_form_keeps_what_decides_how_bytes_are_read_and_nothing_else() {
        let text = r#"{"type": "record", "name": "R", "namespace": "n", "doc": "d", "aliases": ["Q"], "fields": [
            {"name": "a", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, "default": ""},
            {"name": "b", "order": "ignore", "type": ["null", {"type": "array", "items": "R", "size": "x"}]},
            {"name": "c", "type": {"type": "fixed", "name": "m.F", "size": 4}},
            {"name": "d", "type": {"type": "map", "values": {"type": "enum", "name": "E", "symbols": ["X", "Y"]}}}]}"#;
        let schema = AvroSchema::parse(text, []).unwrap();
        assert_eq!(
            canonical_form(&schema),
            concat!(
                r#"{"name":"n.R","type":"record","fields":[{"name":"a","type":"bytes"},"#,
                r#"{"name":"b","type":["null",{"type":"array","items":"n.R"}]},"#,
                r#"{"name":"c","type":{"name":"m.F","type":"fixed","size":4}},"#,
                r#"{"name":"d","type":{"type":"map","values":{"name":"n.E","type":"enum","symbols":["X","Y"]}}}]}"#
            )
        );
    }
}
