use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use aqueduct_core::{
    Batch, BatchBuilder, Compatibility, DataType, Envelope, Field, FieldValue, Literal, Offset, Permit,
    Poison, PoisonReason, RoutePath, RouteTable, Schema, StructuredValue, TimeUnit, Timestamp,
    TopicPartition, ValueVisitor,
};
use proptest::prelude::*;

use super::infer::Inferred;
use super::rows::{CellWriter, ColumnOptions, Columnar, StructuredRows};
use super::shapes::Shapes;
use super::walk::CELLS_MAX;
use super::{Cells, Plan, UnknownMembers, Wide};
use crate::format::{BuildError, BuiltRows, Encoded, Encoder, FileBuilder, FileOutline, Format};
use crate::tape::tests::Tree;

mod fitting;
mod inference;
mod versions;

/// A value for tests.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) tree: Tree,
    pub(crate) schema: Option<Arc<Schema>>,
}

impl Value {
    pub(crate) fn of(schema: &Arc<Schema>, text: &str) -> Self {
        Self { schema: Some(Arc::clone(schema)), ..json(text) }
    }
}

impl StructuredValue for Value {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.schema.as_ref()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        self.tree.give(visitor)
    }
}

/// What the JSON converter gives for `text`.
pub(crate) fn json(text: &str) -> Value {
    Value { tree: json_tree(&serde_json::from_str(text).unwrap()), schema: None }
}

fn json_tree(value: &serde_json::Value) -> Tree {
    use serde_json::Value as Json;
    match value {
        Json::Null => Tree::Scalar(FieldValue::Null),
        Json::Bool(it) => Tree::Scalar(FieldValue::Bool(*it)),
        Json::String(it) => Tree::Scalar(FieldValue::Str(it.clone().into())),
        Json::Number(it) => Tree::Scalar(match (it.as_i64(), it.as_u64()) {
            (Some(whole), _) => FieldValue::I64(whole),
            (_, Some(whole)) => FieldValue::U64(whole),
            _ => FieldValue::Number(it.to_string().leak()),
        }),
        Json::Array(elements) => Tree::List(elements.iter().map(json_tree).collect()),
        Json::Object(members) => {
            Tree::Struct(members.iter().map(|(name, it)| (name.clone(), json_tree(it))).collect())
        }
    }
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
    builder.push(Offset::ZERO, Timestamp::None, None, Some(b""), []);
    builder.build(Permit::unlimited())
}

/// Rows with their shapes, what was refused, and what builds files of the rows.
pub(crate) struct Encodings {
    pub(crate) rows: Vec<(u32, Vec<u8>)>,
    pub(crate) poisons: Vec<Poison>,
    pub(crate) builder: Arc<dyn FileBuilder>,
}

pub(crate) fn encode<F: Format<Value>>(format: &F, values: &[Value]) -> Encodings {
    let Encoder::Built(mut encoder) = format.encoder() else { panic!("files are built") };
    encode_with(&mut *encoder, values)
}

pub(crate) fn encode_with(encoder: &mut dyn BuiltRows<Value>, values: &[Value]) -> Encodings {
    let batch = batch();
    let path = RoutePath::default();
    let route = RouteTable::new().intern(&path);
    let (mut rows, mut poisons, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        let start = out.len();
        let record = &batch.get(0).unwrap();
        match encoder.encode(&Envelope { record, route, path: &path, value: value.clone() }, &mut out) {
            Ok(Encoded { shape, .. }) => rows.push((shape, out[start..].to_vec())),
            Err(poison) => {
                out.truncate(start);
                poisons.push(poison);
            }
        }
    }
    Encodings { rows, poisons, builder: encoder.finish() }
}

impl Encodings {
    pub(crate) fn files(&self) -> BTreeMap<u32, Vec<u8>> {
        let mut shapes: BTreeMap<u32, Vec<&[u8]>> = BTreeMap::new();
        for (shape, row) in &self.rows {
            shapes.entry(*shape).or_default().push(row);
        }
        let build = |(shape, rows): (u32, Vec<&[u8]>)| {
            (shape, crate::testkit::build_file(&*self.builder, shape, &rows).unwrap())
        };
        shapes.into_iter().map(build).collect()
    }
}

pub(crate) fn files<F: Format<Value>>(format: &F, values: &[Value]) -> BTreeMap<u32, Vec<u8>> {
    let encodings = encode(format, values);
    assert_eq!(encodings.poisons, []);
    encodings.files()
}

/// Where samples go that other readers are tried on.
pub(crate) fn sample(name: &str, bytes: &[u8]) {
    if let Some(directory) = std::env::var_os("AQUEDUCT_SAMPLES") {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(std::path::Path::new(&directory).join(name), bytes).unwrap();
    }
}

/// A value of every kind, in and around lists, maps and structs; two rows, the second as empty as it can be.
pub(crate) fn every_kind() -> (Arc<Schema>, Vec<Value>) {
    let scalar = Tree::Scalar;
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let number = |it: i128, scale| scalar(FieldValue::Decimal(aqueduct_core::Decimal::from_i128(it, scale)));
    let timestamp = |unit, utc| DataType::Timestamp { unit, utc };
    let at = |count, unit, utc| scalar(FieldValue::Timestamp { count, unit, utc });
    let (ms, us, ns) = (TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos);
    let bytes = |it: &[u8]| scalar(FieldValue::Bytes(it.to_vec().into()));
    let text = |it: &str| scalar(FieldValue::Str(it.to_owned().into()));
    let int = |it| scalar(FieldValue::I64(it));
    let inner = DataType::Struct(vec![
        Field::new("x", DataType::Int32),
        Field::new("y", DataType::String).nullable(),
    ]);
    let object = |x, y: Tree| Tree::Struct(vec![("x".to_owned(), int(x)), ("y".to_owned(), y)]);
    let null = || scalar(FieldValue::Null);
    let list = |element: DataType| DataType::List(Box::new(Field::new("", element).nullable()));
    let map = |value: DataType| DataType::Map(Box::new(Field::new("", value).nullable()));
    let union = DataType::Union(vec![
        Field::new("", DataType::String),
        Field::new("", DataType::Int64),
        Field::new("shop.Inner", inner.clone()),
    ]);
    let all: Vec<(&str, DataType, Tree)> = vec![
        ("bool", DataType::Bool, scalar(FieldValue::Bool(true))),
        ("int8", DataType::Int8, int(-128)),
        ("int16", DataType::Int16, int(-32_768)),
        ("int32", DataType::Int32, int(-2_147_483_648)),
        ("int64", DataType::Int64, int(i64::MIN)),
        ("uint32", DataType::UInt32, int(4_294_967_295)),
        ("uint64", DataType::UInt64, scalar(FieldValue::U64(u64::MAX))),
        ("float32", DataType::Float32, scalar(FieldValue::F32(0.1))),
        ("float64", DataType::Float64, scalar(FieldValue::F64(-0.5))),
        ("decimal5", decimal(5, 2), number(-12_345, 2)),
        ("decimal18", decimal(18, 3), number(-123_456_789_012_345_678, 3)),
        ("decimal38", decimal(38, 10), number(-12_345_678_901_234_567_890_123_456_789, 10)),
        ("decimal60", decimal(60, 20), number(170_141_183_460_469_231_731_687_303_715_884_105_727, 20)),
        ("string", DataType::String, text("é\n\"x\"")),
        ("bytes", DataType::Bytes, bytes(b"\xff\0a")),
        ("fixed", DataType::Fixed(3), bytes(b"abc")),
        ("uuid", DataType::Uuid, scalar(FieldValue::Uuid(*b"0123456789abcdef"))),
        ("enum", DataType::Enum(vec!["RED".to_owned(), "BLUE".to_owned()]), text("BLUE")),
        ("date", DataType::Date, scalar(FieldValue::Date(-1))),
        ("time_ms", DataType::Time(ms), scalar(FieldValue::Time { count: 27_000_250, unit: ms })),
        ("time_us", DataType::Time(us), scalar(FieldValue::Time { count: 27_000_250_001, unit: us })),
        ("time_ns", DataType::Time(ns), scalar(FieldValue::Time { count: 27_000_250_000_001, unit: ns })),
        ("ts_ms", timestamp(ms, true), at(1_624_865_400_250, ms, true)),
        ("ts_us", timestamp(us, true), at(-1, us, true)),
        ("ts_ns", timestamp(ns, true), at(1, ns, true)),
        ("local_ms", timestamp(ms, false), at(1_624_865_400_250, ms, false)),
        ("local_us", timestamp(us, false), at(1_624_865_400_250_000, us, false)),
        ("local_ns", timestamp(ns, false), at(1, ns, false)),
        ("duration", DataType::Duration, scalar(FieldValue::Duration { months: 1, days: 2, millis: 3_004 })),
        ("json", DataType::Json, Tree::List(vec![int(1), text("two")])),
        ("list", list(DataType::Int64), Tree::List(vec![int(1), null(), int(3)])),
        (
            "lists",
            list(list(DataType::String)),
            Tree::List(vec![Tree::List(vec![text("a")]), null(), Tree::List(vec![])]),
        ),
        ("map", map(DataType::Int64), Tree::Map(vec![("k".to_owned(), int(1)), ("l".to_owned(), null())])),
        ("structs", list(inner.clone()), Tree::List(vec![object(1, text("a")), null(), object(2, null())])),
        ("struct", inner.clone(), object(7, null())),
        ("union", union, Tree::Branch(2, Box::new(object(9, text("u"))))),
        ("nothing", DataType::Null, null()),
        ("empty", DataType::Struct(vec![]), Tree::Struct(vec![])),
    ];
    let fields = all.iter().map(|(name, data_type, _)| Field::new(*name, data_type.clone()).nullable());
    let schema = Schema::new(DataType::Struct(fields.collect())).with_name("shop.Every");
    let full = all.into_iter().map(|(name, _, tree)| (name.to_owned(), tree)).collect();
    let schema = Arc::new(schema);
    let value = |tree| Value { tree, schema: Some(Arc::clone(&schema)) };
    let values = vec![value(Tree::Struct(full)), value(Tree::Struct(vec![]))];
    (schema, values)
}

/// A format that shows its cells as text: a line of names, then one for each row.
#[derive(Clone, Default)]
struct Shown(ColumnOptions);

struct Lines {
    names: String,
    text: String,
    rows: usize,
}

impl Columnar for Shown {
    type Shape = ();
    type Writer = Lines;

    fn plan(&self, schema: &Schema) -> Plan {
        Plan::of_columns(schema)
    }

    fn shape(&self, _schema: &Arc<Schema>, _plan: &Plan) -> Result<(), BuildError> {
        Ok(())
    }

    fn open(&self, _shape: &(), plan: &Plan, _file: &FileOutline) -> Result<Lines, BuildError> {
        let names = plan.node(0).children.iter().map(|&child| {
            let kind = plan.node(child as usize).kind;
            format!("{}:{kind:?}", plan.node(child as usize).name)
        });
        Ok(Lines { names: names.collect::<Vec<_>>().join(" "), text: String::new(), rows: 0 })
    }

    fn workspace(&self, _shape: &(), _plan: &Plan, _file: &FileOutline) -> usize {
        0
    }
}

impl Shown {
    fn rows(&self) -> StructuredRows<Self> {
        StructuredRows::new(self, &self.0)
    }

    fn encode(&self, values: &[Value]) -> Encodings {
        encode_with(&mut self.rows(), values)
    }

    /// By shape: names, and rows.
    fn show(&self, values: &[Value]) -> Vec<String> {
        let encodings = self.encode(values);
        assert_eq!(encodings.poisons, []);
        let files = encodings.files().into_values();
        files.map(|file| String::from_utf8(file).unwrap()).collect()
    }

    fn poison(&self, value: Value) -> Poison {
        let mut encodings = self.encode(&[value]);
        assert!(encodings.rows.is_empty());
        encodings.poisons.remove(0)
    }
}

impl CellWriter for Lines {
    fn end_row(&mut self, _out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.rows += 1;
        self.text.push('\n');
        Ok(())
    }

    fn end_chunk(&mut self, _out: &mut Vec<u8>) -> Result<(), BuildError> {
        Ok(())
    }

    fn finish(self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        out.extend_from_slice(format!("{}\n{}", self.names, self.text).as_bytes());
        Ok(())
    }
}

impl Lines {
    fn put(&mut self, cell: impl std::fmt::Display) {
        write!(self.text, "{cell} ").unwrap();
    }
}

impl Cells for Lines {
    fn null(&mut self, _: usize) {
        self.put("-");
    }
    fn boolean(&mut self, _: usize, value: bool) {
        self.put(value);
    }
    fn integer(&mut self, _: usize, value: i64) {
        self.put(value);
    }
    fn unsigned(&mut self, _: usize, value: u64) {
        self.put(value);
    }
    fn float(&mut self, _: usize, value: f32) {
        self.put(format_args!("{value:?}"));
    }
    fn double(&mut self, _: usize, value: f64) {
        self.put(format_args!("{value:?}"));
    }
    fn decimal(&mut self, _: usize, value: Wide) {
        let value = aqueduct_core::Decimal::new(value.to_be_bytes().to_vec(), 0);
        self.put(format_args!("d{value}"));
    }
    fn text(&mut self, _: usize, value: &[u8]) {
        self.put(format_args!("'{}'", std::str::from_utf8(value).unwrap()));
    }
    fn symbol(&mut self, _: usize, index: u32, symbol: &[u8]) {
        self.put(format_args!("{}#{index}", std::str::from_utf8(symbol).unwrap()));
    }
    fn bytes(&mut self, _: usize, value: &[u8]) {
        self.put(format_args!("{value:x?}"));
    }
    fn duration(&mut self, _: usize, months: u32, days: u32, millis: u32) {
        self.put(format_args!("{months}/{days}/{millis}"));
    }
    fn begin_struct(&mut self, node: usize) {
        if node > 0 {
            self.put("{");
        }
    }
    fn begin_list(&mut self, _: usize, count: usize) {
        self.put(format_args!("[{count}:"));
    }
    fn begin_map(&mut self, _: usize, count: usize) {
        self.put(format_args!("<{count}:"));
    }
    fn key(&mut self, _: usize, key: &[u8]) {
        self.put(format_args!("{}=", std::str::from_utf8(key).unwrap()));
    }
    fn branch(&mut self, _: usize, place: usize) {
        self.put(format_args!("|{place}"));
    }
    fn end(&mut self, node: usize) {
        if node > 0 {
            self.put(".");
        }
    }
}
