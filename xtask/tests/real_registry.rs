//! Against a real registry, so not among the tests of `cargo test --workspace`: run it by
//! `cargo test --package xtask --test real_registry -- --ignored`.

use std::error::Error as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use aqueduct::{
    BatchBuilder, Converted, Converter as _, Offset, Permit, StructuredValue as _, Timestamp, TopicPartition,
};
use aqueduct_converters::JsonSchema;
use aqueduct_converters::registry::{SchemaAnswer, SchemaKind, SchemaSource as _, SubjectVersion, wire};
use aqueduct_schema_registry::{NewSchema, RegistryClient, RegistryError};
use xtask::services::{Cache, Registry};

const MONEY: &str =
    r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}"#;
const ORDER: &str =
    r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"total","type":"shop.Money"}]}"#;
const PROTO: &str = "syntax = \"proto3\";\npackage shop;\n\nmessage Item {\n  string name = 1;\n}\n";
const JSON: &str = r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Apicurio Registry"]
async fn the_client_and_a_real_registry_fit_together() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut registry = Registry::launch(&Cache::from_env()?, home.path()).await?;
    let client = RegistryClient::builder(registry.url()).versions(true).build()?;

    // Kinds, references, versions.
    let money = client.register("money", &NewSchema::new(SchemaKind::Avro, MONEY)).await?;
    let order = NewSchema::new(SchemaKind::Avro, ORDER).reference("shop.Money", "money", 1);
    let order = client.register("orders-value", &order).await?;
    let proto = client.register("items/v 1", &NewSchema::new(SchemaKind::Protobuf, PROTO)).await?;
    let json = client.register("things-value", &NewSchema::new(SchemaKind::Json, JSON)).await?;
    assert_eq!(client.register("money", &NewSchema::new(SchemaKind::Avro, MONEY)).await?, money);
    let SchemaAnswer::Known(found) = client.schema(order.into()).await? else { panic!("not found") };
    assert_eq!((found.kind, found.text.as_str()), (SchemaKind::Avro, ORDER));
    assert_eq!(found.references.len(), 1);
    assert_eq!((found.references[0].name.as_str(), found.references[0].text.as_str()), ("shop.Money", MONEY));
    assert_eq!(found.versions, [SubjectVersion { subject: "orders-value".to_owned(), version: 1 }]);
    for (id, kind) in [(proto, SchemaKind::Protobuf), (json, SchemaKind::Json)] {
        let SchemaAnswer::Known(found) = client.schema(id.into()).await? else { panic!("not found") };
        assert_eq!(found.kind, kind);
    }

    json_schema_is_read_with_what_it_refers_to(&client, json).await?;

    // What is not there, and what is not taken.
    assert_eq!(client.schema(4_000_000.into()).await?, SchemaAnswer::Unknown);
    let refused = client.register("bad", &NewSchema::new(SchemaKind::Avro, "{nonsense")).await.unwrap_err();
    let cause = refused.source().and_then(|source| source.downcast_ref::<RegistryError>());
    ensure!(matches!(cause, Some(RegistryError::Refused { status: 422, .. })), "{refused:?}");

    // Frozen, it does not answer; killed, nobody does; back again, it has what it had.
    let hasty = RegistryClient::builder(registry.url())
        .request_timeout(Duration::from_millis(300))
        .attempts(1)
        .build()?;
    registry.process()?.suspend()?;
    let stalled = hasty.schema(order.into()).await.unwrap_err();
    registry.process()?.resume()?;
    let cause = stalled.source().and_then(|source| source.downcast_ref::<RegistryError>());
    ensure!(matches!(cause, Some(RegistryError::TimedOut { .. })), "{stalled:?}");
    registry.kill().await?;
    let gone = hasty.schema(order.into()).await.unwrap_err();
    let cause = gone.source().and_then(|source| source.downcast_ref::<RegistryError>());
    ensure!(matches!(cause, Some(RegistryError::Unreachable { .. })), "{gone:?}");
    registry.start().await?;
    let SchemaAnswer::Known(again) = client.schema(order.into()).await? else {
        panic!("lost by the registry")
    };
    assert_eq!(again, found);
    registry.stop().await?;
    Ok(())
}

/// The converter's own way: references by their names, versions by subject.
async fn json_schema_is_read_with_what_it_refers_to(client: &RegistryClient, thing: u32) -> Result<()> {
    let list = r#"{"type":"object","properties":{"things":{"type":"array","items":{"$ref":"thing.json"}}}}"#;
    let list = NewSchema::new(SchemaKind::Json, list).reference("thing.json", "things-value", 1);
    let list = client.register("lists-value", &list).await?;
    let converter = JsonSchema::with_registry(client.clone()).subject("lists-value");
    let mut batch = BatchBuilder::new(TopicPartition::new("lists", 0), 64);
    for (offset, id) in (0..).zip([list, thing]) {
        let mut value = Vec::new();
        wire::write_prefix(id, &mut value);
        value.extend_from_slice(b"{}");
        batch.push(Offset::new(offset), Timestamp::None, None, Some(&value), []);
    }
    let batch = batch.build(Permit::unlimited());
    converter.prepare(&batch).await?;
    let mut schemas = Vec::new();
    for record in batch.iter() {
        let Converted::Emit(value) = converter.convert(&record)? else { panic!("it is no tombstone") };
        schemas.push(value.schema().map(ToString::to_string).unwrap_or_default());
    }
    // The second is not registered under that subject.
    assert_eq!(schemas, ["/1 struct{things:list<struct{id:int64?}>?}", "struct{id:int64?}"]);
    Ok(())
}
