//! Pipelines whose stages a configuration chooses.

use std::sync::Arc;

use aqueduct_converters::{
    AnyValue, Cbor, Columns, ConnectJson, DynamicExt as _, Json, MessagePack, Primitive, RawBytes, Serde,
    Tombstones, Typed, Utf8,
};
use aqueduct_core::testkit::{
    MemorySink, MemoryStore, ScriptedBroker, ScriptedRecord, check_converter, fingerprint_of, record,
};
use aqueduct_core::{
    Converter, FieldPath, FieldValue, Fields, Fingerprint, Partitioner, Pipeline, Poison, Record, RoutePath,
    Sink,
};
use bytes::Bytes;

type Stage = Arc<dyn Converter<Output = AnyValue>>;

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Order {
    id: String,
}

impl Fields for Order {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        (path.segments() == ["id"]).then(|| FieldValue::Str(self.id.as_str().into()))
    }
}

/// As a configuration would name them.
fn stage(name: &str) -> Option<Stage> {
    Some(match name {
        "bytes" => Arc::new(RawBytes::new().dynamic()),
        "text" => Arc::new(Utf8::new().dynamic()),
        "json" => Arc::new(Json::new().tombstones(Tombstones::Null).dynamic()),
        "long" => Arc::new(Primitive::long().dynamic()),
        "cbor" => Arc::new(Cbor::new().dynamic()),
        "messagepack" => Arc::new(MessagePack::new().dynamic()),
        "connect" => Arc::new(ConnectJson::new().dynamic()),
        "order" => Arc::new(Serde::<Order>::new().dynamic()),
        "with key" => {
            let columns = Columns::around(stage("json")?).key("key", Utf8::new()).offset("offset");
            Arc::new(columns.build().ok()?.dynamic())
        }
        _ => return None,
    })
}

/// Lays values out by their member `id`.
struct ById(FieldPath);

impl Partitioner<AnyValue> for ById {
    fn route(&self, _: &Record<'_>, value: &AnyValue, path: &mut RoutePath) -> Result<(), Poison> {
        match value.field(&self.0) {
            Some(FieldValue::Str(id)) => path.push_field("id", &id),
            _ => path.push_field("id", "none"),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "by-id/1");
    }
}

async fn rows(name: &str, value: &[u8]) -> Vec<(String, String)> {
    let broker = ScriptedBroker::new();
    let lane = broker.create("orders", 1).remove(0);
    broker.append(&lane, ScriptedRecord::new(Bytes::copy_from_slice(value)).key("k"));
    let store = MemoryStore::new();
    let partitioner: Arc<dyn Partitioner<AnyValue>> = Arc::new(ById(FieldPath::parse("id").unwrap()));
    let sink: Arc<dyn Sink<AnyValue>> = Arc::new(MemorySink::<AnyValue>::json(&store));
    let spool = tempfile::tempdir().unwrap();
    Pipeline::from(broker.source().until_end())
        .convert(stage(name).unwrap())
        .partition(partitioner)
        .sink(sink)
        .spool_dir(spool.path())
        .build()
        .unwrap()
        .run(std::future::pending::<()>())
        .await
        .unwrap();
    store
        .rows(&lane)
        .into_iter()
        .map(|(route, row)| (route, String::from_utf8(row.value.to_vec()).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_type_of_pipeline_takes_every_converter() {
    let id =
        |route: &str, row: &str| vec![(format!("orders/id={route}/orders+0+0000000000"), row.to_owned())];
    assert_eq!(rows("bytes", b"\xff").await, id("none", "\"/w==\""));
    assert_eq!(rows("text", b"x").await, id("none", "\"x\""));
    assert_eq!(rows("json", b"{\"id\": \"a\"}").await, id("a", "{\"id\": \"a\"}"));
    assert_eq!(rows("long", &7_i64.to_be_bytes()).await, id("none", "7"));
    assert_eq!(rows("cbor", b"\xa1\x62id\x61b").await, id("b", "{\"id\":\"b\"}"));
    assert_eq!(rows("messagepack", b"\x81\xa2id\xa1c").await, id("c", "{\"id\":\"c\"}"));
    assert_eq!(rows("connect", br#"{"schema":null,"payload":{"id":"d"}}"#).await, id("d", "{\"id\":\"d\"}"));
    assert_eq!(rows("order", br#"{"id":"e","x":1}"#).await, id("e", "{\"id\":\"e\"}"));
    assert_eq!(rows("with key", br#"{"id":"f"}"#).await, id("f", r#"{"id":"f","offset":0,"key":"k"}"#));
}

#[tokio::test]
async fn a_converter_keeps_its_identity_and_its_contract() {
    let records = [record(ScriptedRecord::new("{\"id\":\"x\"}").key("k"))];
    for name in ["bytes", "text", "json", "long", "cbor", "messagepack", "connect", "order", "with key"] {
        check_converter(&stage(name).unwrap(), &records).await;
    }
    let of =
        |converter: &dyn Converter<Output = AnyValue>| fingerprint_of(|parts| converter.fingerprint(parts));
    assert_eq!(of(&Utf8::new().dynamic()), fingerprint_of(|parts| Utf8::new().fingerprint(parts)));
    assert_ne!(of(&*stage("json").unwrap()), of(&*stage("with key").unwrap()));
    let one = AnyValue::from(Typed(Order { id: "x".to_owned() }));
    assert_eq!(one, AnyValue::other(Typed(Order { id: "x".to_owned() })));
}
