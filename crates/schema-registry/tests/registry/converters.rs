//! Converters that ask the client for schemas: what they refer to, and which version they are.

use aqueduct_converters::registry::{SchemaKind, wire};
use aqueduct_converters::{Columns, JsonSchema, Protobuf, Utf8};
use aqueduct_core::{
    Batch, BatchBuilder, Compatibility, Converted, Converter, JsonRow, Offset, Permit, StructuredValue,
    Timestamp, TopicPartition,
};
use aqueduct_schema_registry::NewSchema;
use aqueduct_schema_registry::testkit::TestRegistry;

use super::support::{builder, targets};

fn batch(values: &[(u32, &[u8])]) -> Batch {
    let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
    for (offset, (id, payload)) in (0..).zip(values) {
        let mut value = Vec::new();
        wire::write_prefix(*id, &mut value);
        value.extend_from_slice(payload);
        let header = value.clone();
        batch.push(Offset::new(offset), Timestamp::None, None, Some(&value), [("h", Some(&header[..]))]);
    }
    batch.build(Permit::unlimited())
}

async fn read<C: Converter<Output: StructuredValue + JsonRow>>(
    converter: &C,
    batch: &Batch,
) -> Vec<(String, C::Output)> {
    converter.prepare(batch).await.unwrap();
    let row = |value: &C::Output| {
        let mut row = Vec::new();
        value.write_json(&mut row).unwrap();
        String::from_utf8(row).unwrap()
    };
    let rows = batch.iter().map(|record| match converter.convert(&record) {
        Ok(Converted::Emit(value)) => (row(&value), value),
        Ok(Converted::Skip(reason)) => panic!("{reason:?}"),
        Err(poison) => panic!("{poison}"),
    });
    rows.collect()
}

#[tokio::test]
async fn json_schema_is_read_with_its_references_and_versions() {
    let registry = TestRegistry::start().await;
    let json = |text: &str| NewSchema::new(SchemaKind::Json, text);
    registry.register("unit", &json(r#"{"type":"object","properties":{"code":{"type":"string"}}}"#));
    let item = json(r#"{"properties":{"n":{"type":"integer"},"unit":{"$ref":"unit.json"}}}"#);
    registry.register("item", &item.reference("unit.json", "unit", 1));
    let of = |members: &str| {
        json(&format!(r#"{{"properties":{{"item":{{"$ref":"item.json"}}{members}}}}}"#)).reference(
            "item.json",
            "item",
            1,
        )
    };
    let older = registry.register("orders-value", &of(""));
    let newer = registry.register("orders-value", &of(r#","note":{"type":"string"}"#));
    registry.requests();

    let client = builder(&registry).versions(true).build().unwrap();
    let converter = JsonSchema::with_registry(client).subject("orders-value");
    let rows = read(
        &converter,
        &batch(&[(newer, br#"{"item":{"n":1}}"#), (older, br#"{"item":{"unit":{"code":"kg"}}}"#)]),
    )
    .await;
    let schemas: Vec<_> = rows.iter().map(|(_, value)| value.schema().unwrap()).collect();
    assert_eq!(schemas[1].to_string(), "/1 struct{item:struct{n:int64?,unit:struct{code:string?}?}?}");
    assert_eq!(schemas[0].version(), Some(2));
    assert!(!Compatibility::Backward.prefers(schemas[1], schemas[0]), "the older one came later");
    let asked = targets(&registry);
    assert!(asked.contains(&"GET /subjects/unit/versions/1?deleted=true".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn protobuf_is_read_with_its_imports_and_versions_and_headers_are_too() {
    let registry = TestRegistry::start().await;
    let proto = |text: &str| NewSchema::new(SchemaKind::Protobuf, text);
    registry.register("item", &proto(r#"syntax = "proto3"; package shop; message Item { int32 n = 1; }"#));
    let order = r#"syntax = "proto3"; import "shop/item.proto"; message Order { shop.Item item = 1; }"#;
    let id = registry.register("orders-value", &proto(order).reference("shop/item.proto", "item", 1));

    let client = builder(&registry).versions(true).build().unwrap();
    let converter = Columns::around(Protobuf::with_registry(client.clone()).subject("orders-value"))
        .header("h", "header", Protobuf::with_registry(client))
        .header("none", "none", Utf8::new())
        .build()
        .unwrap();
    let rows = read(&converter, &batch(&[(id, b"\0\x0a\x02\x08\x07")])).await;
    let (row, value) = &rows[0];
    assert_eq!(row, r#"{"item":{"n":7},"header":{"item":{"n":7}},"none":null}"#);
    assert_eq!(
        value.schema().unwrap().to_string(),
        "Order/1 struct{item:struct{n:int32}?,header:struct{item:struct{n:int32}?}?,none:string?}"
    );
}
