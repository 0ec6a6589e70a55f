//! Records as changes of rows.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use aqueduct_core::{Poison, StructuredValue};

use crate::row::{Identity, RowPlan, Tag, WireType, Workspace, begin_delimited, end_delimited, put_bytes};
use crate::schema::{Field, Mode, TableSchema, descriptor};

/// Records change rows instead of adding some: change data capture
/// (<https://cloud.google.com/bigquery/docs/change-data-capture>).
///
/// A record with a value puts its row in the place of the one with the same primary key; a record without one, a tombstone,
/// deletes that. So a compacted topic and its table say the same.
///
/// Needs [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), as BigQuery takes changes by the default stream only, columns that
/// are declared, as a tombstone brings no schema, and [`TableOptions::primary_key`](crate::TableOptions::primary_key), whose columns
/// every record must fill, tombstones too. A table that exists must have that key, and no other column that is `REQUIRED`, unless
/// [`evolve_tables(true)`](crate::TableOptions::evolve_tables) may relax it.
///
/// # The key
/// A tombstone has no value, so the columns of the key come from the record's key: with `Columns::key` of the converters as one
/// column, with [`KeyColumns`](crate::KeyColumns) as one column for each member. The converter of the value is told
/// `Tombstones::Null`; otherwise deletions are poison.
///
/// ```
/// use aqueduct_converters::{Columns, Json, Tombstones, Utf8};
/// use aqueduct_sink_bigquery::{
///     BigQuerySink, Changes, Credentials, Delivery, Field, FieldType, TableOptions, TableSchema,
/// };
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// // key "c-17", value {"name": "Tal", "tier": 2}
/// let converter = Columns::around(Json::new().tombstones(Tombstones::Null)).key("id", Utf8::new()).build()?;
/// let sink = BigQuerySink::builder()
///     .project("shop")
///     .dataset("crm")
///     .table("customers")
///     .credentials(Credentials::Anonymous)
///     .schema(TableSchema::new([
///         Field::required("id", FieldType::String),
///         Field::required("name", FieldType::String),
///         Field::nullable("tier", FieldType::Int64),
///     ]))
///     .tables(TableOptions::new().primary_key(["id"]).clustering(["id"]))
///     .delivery(Delivery::AtLeastOnce)
///     .changes(Changes::new())
///     .build()
///     .await?;
/// # drop((converter, sink));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Columns
/// A deletion says nothing but its key. So tables are made with every other column nullable, and values are still checked against
/// the columns as they are declared; columns of the key are `REQUIRED`.
///
/// # Order
/// The change with the largest `_CHANGE_SEQUENCE_NUMBER` counts, which here is `epoch/offset` in hexadecimal. A record that is
/// written a second time, however late, changes nothing: so at least once is enough, and a table of changes is right after any
/// crash.
///
/// Offsets tell which of two changes is the later one for as long as all changes of a key are in one partition: that is so for every
/// producer that chooses partitions by keys. It ends where
///
/// - **partitions are added**: keys move to others, with smaller offsets, and their changes would lose. Let the pipeline reach the
///   end of the topic with producers stopped, add the partitions, and go on with a higher [`epoch`](Self::epoch).
/// - **the topic is created again**: its offsets begin anew. A higher epoch.
/// - **several topics are written to one table**: their offsets say nothing about each other. Only for topics without a common key.
/// - **other writers change the table**: "a mix of rows with and without" sequence numbers has no predictable order.
///
/// BigQuery remembers a deletion for two days. A change that is older than a deletion and comes later than that brings the row
/// back: a pipeline that starts again from offsets of last week should write to a new table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Changes {
    epoch: u64,
}

impl Changes {
    /// Most top-level columns of a table with changes, `_kafka_…` included
    /// (<https://cloud.google.com/bigquery/docs/change-data-capture#limitations>).
    pub const COLUMNS_MAX: usize = 2000;

    /// Changes of epoch 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// What weighs more than a record's offset when changes of one row are put in order; 0 by default. See [order](Self#order).
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    /// The columns that values have to fill: the key's, and those declared so.
    pub(crate) fn of_values(schema: &TableSchema, key: &[String]) -> TableSchema {
        let required = |field: &Field| {
            let mode = if is_key(field, key) { Mode::Required } else { field.mode };
            Field { mode, ..field.clone() }
        };
        TableSchema { fields: schema.fields.iter().map(required).collect() }
    }

    /// The columns of the table, which a deletion fills as well.
    pub(crate) fn of_table(schema: &TableSchema, key: &[String]) -> TableSchema {
        let relaxed = |field: &Field| {
            let mode = match field.mode {
                Mode::Repeated => Mode::Repeated,
                _ if is_key(field, key) => Mode::Required,
                _ => Mode::Nullable,
            };
            Field { mode, ..field.clone() }
        };
        TableSchema { fields: schema.fields.iter().map(relaxed).collect() }
    }
}

fn is_key(field: &Field, key: &[String]) -> bool {
    key.iter().any(|column| column.eq_ignore_ascii_case(&field.name))
}

/// What rows of changes have beside their columns.
#[derive(Debug)]
pub(crate) struct ChangePlan {
    epoch: u64,
    /// For rows of which only the key is there.
    deletes: RowPlan,
    descriptor: DescriptorProto,
    change: Tag,
    sequence: Tag,
}

impl ChangePlan {
    /// `deletes` encodes the [columns of the table](Changes::of_table); their numbers are those of values.
    pub(crate) fn new(changes: &Changes, deletes: RowPlan) -> Self {
        let mut descriptor = descriptor("Row", deletes.columns());
        let [change, sequence] = ["_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER"].map(|name| {
            let number = descriptor.field.len() + 1;
            let mut field = FieldDescriptorProto {
                name: Some(name.to_owned()),
                number: i32::try_from(number).ok(),
                ..FieldDescriptorProto::default()
            };
            field.set_label(Label::Optional);
            field.set_type(Type::String);
            descriptor.field.push(field);
            Tag::new(u32::try_from(number).unwrap_or(u32::MAX), WireType::Delimited)
        });
        Self { epoch: changes.epoch, deletes, descriptor, change, sequence }
    }

    /// The columns of the table, ours included.
    pub(crate) fn columns(&self) -> &[Field] {
        self.deletes.columns()
    }

    /// The protobuf type of the rows.
    pub(crate) fn descriptor(&self) -> &DescriptorProto {
        &self.descriptor
    }

    /// Appends the row that deletes what has the key of `value`. On an error `out` is as before.
    pub(crate) fn encode_delete<T: StructuredValue>(
        &self,
        value: &T,
        identity: Identity<'_>,
        workspace: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        self.deletes.encode(value, identity, workspace, out)?;
        self.put("DELETE", identity.offset, out);
        Ok(())
    }

    /// Makes the row that was encoded last one that takes the place of the row with its key.
    pub(crate) fn put_upsert(&self, offset: i64, out: &mut Vec<u8>) {
        self.put("UPSERT", offset, out);
    }

    fn put(&self, change: &str, offset: i64, out: &mut Vec<u8>) {
        self.change.put(out);
        put_bytes(out, change.as_bytes());
        self.sequence.put(out);
        let start = begin_delimited(out);
        put_hexadecimal(self.epoch, out);
        out.push(b'/');
        // Offsets of records are never negative.
        put_hexadecimal(offset.max(0).unsigned_abs(), out);
        end_delimited(out, start);
    }
}

/// Without zeros in front.
fn put_hexadecimal(number: u64, out: &mut Vec<u8>) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = u32::try_from(number >> (4 * place) & 15).unwrap_or_default();
        out.extend(char::from_digit(digit, 16).and_then(|digit| u8::try_from(digit).ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 0xabc, 1 << 60, u64::MAX] {
            let mut out = Vec::new();
            put_hexadecimal(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }
}
