//! Schemas that refer to others.

use aqueduct_converters::registry::{SchemaKind, SchemaSource};
use aqueduct_core::Class;
use aqueduct_schema_registry::testkit::TestRegistry;
use aqueduct_schema_registry::{NewSchema, RegistryError};

use super::support::{avro, builder, cause, client, known, targets, unreadable};

#[tokio::test]
async fn references_come_in_the_order_of_their_dependencies_and_once() {
    let registry = TestRegistry::start().await;
    registry.register("base", &avro("base"));
    registry.register("left", &avro("left").reference("Base", "base", 1));
    registry.register("right", &avro("right").reference("Base", "base", 1));
    let top =
        avro("top").reference("Left", "left", 1).reference("Right", "right", 1).reference("Left", "left", 1);
    let id = registry.register("top", &top);
    let schema = known(&client(&registry), id).await;
    let found: Vec<_> =
        schema.references.iter().map(|it| (&*it.name, &*it.subject, it.version, &*it.text)).collect();
    assert_eq!(
        found,
        [("Base", "base", 1, "base"), ("Left", "left", 1, "left"), ("Right", "right", 1, "right")]
    );
    assert_eq!(targets(&registry).len(), 4, "each is fetched once");
}

#[tokio::test]
async fn two_names_for_one_schema_are_two_references_and_one_request() {
    let registry = TestRegistry::start().await;
    registry.register("base", &avro("base"));
    let id = registry.register("top", &avro("top").reference("a", "base", 1).reference("b", "base", 1));
    let schema = known(&client(&registry), id).await;
    assert_eq!(schema.references.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(targets(&registry), ["GET /schemas/ids/2", "GET /subjects/base/versions/1?deleted=true"]);
}

#[tokio::test]
async fn a_deleted_version_is_still_found() {
    let registry = TestRegistry::start().await;
    registry.register("a/b", &avro("base"));
    let id = registry.register("top", &avro("top").reference("Base", "a/b", 1));
    registry.delete("a/b", 1);
    assert_eq!(known(&client(&registry), id).await.references.len(), 1);
    assert_eq!(targets(&registry)[1], "GET /subjects/a%2Fb/versions/1?deleted=true");
}

#[tokio::test]
async fn a_reference_to_nothing_is_a_failure_of_the_registry() {
    let registry = TestRegistry::start().await;
    let id = registry.register_unchecked("top", &avro("top").reference("Base", "gone", 1));
    let error = client(&registry).schema(id.into()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unknown);
    let RegistryError::Unexpected { what, code: Some(40_401), .. } = cause(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(what, r#"version 1 of subject "gone""#);
}

#[tokio::test]
async fn a_reference_to_another_kind_cannot_be_read() {
    let registry = TestRegistry::start().await;
    registry.register("base", &NewSchema::new(SchemaKind::Json, "{}"));
    let id = registry.register("top", &avro("top").reference("Base", "base", 1));
    let reason = unreadable(&client(&registry), id).await;
    assert_eq!(reason, r#"it is of kind AVRO and refers to a schema of kind "JSON""#);
}

#[tokio::test]
async fn circles_are_seen() {
    let registry = TestRegistry::start().await;
    registry.register_unchecked("one", &avro("1").reference("Two", "two", 1));
    registry.register_unchecked("two", &avro("2").reference("One", "one", 1));
    let id = registry.register_unchecked("top", &avro("top").reference("One", "one", 1));
    let reason = unreadable(&client(&registry), id).await;
    assert_eq!(reason, r#"it refers to "one" version 1 from within"#);
    assert_eq!(targets(&registry).len(), 3);
}

#[tokio::test]
async fn chains_have_a_limit() {
    let registry = TestRegistry::start().await;
    let mut last = registry.register("s0", &avro("0"));
    for depth in 1..=4 {
        let before = format!("s{}", depth - 1);
        last =
            registry.register(&format!("s{depth}"), &avro(&depth.to_string()).reference(&before, &before, 1));
    }
    let at = builder(&registry).reference_depth_max(4).build().unwrap();
    assert_eq!(known(&at, last).await.references.len(), 4);
    let past = builder(&registry).reference_depth_max(3).build().unwrap();
    assert_eq!(unreadable(&past, last).await, "its references are more than 3 deep");
}

#[tokio::test]
async fn numbers_of_references_have_a_limit() {
    let registry = TestRegistry::start().await;
    let mut top = avro("top");
    for index in 0..5 {
        let name = format!("s{index}");
        registry.register(&name, &avro(&name));
        top = top.reference(&name, &name, 1);
    }
    let id = registry.register("top", &top);
    let at = builder(&registry).references_max(5).build().unwrap();
    assert_eq!(known(&at, id).await.references.len(), 5);
    let past = builder(&registry).references_max(4).build().unwrap();
    registry.requests();
    assert_eq!(unreadable(&past, id).await, "it refers to more than 4 schemas");
    assert_eq!(targets(&registry).len(), 5);
}

#[tokio::test]
async fn texts_have_a_limit_together() {
    let registry = TestRegistry::start().await;
    registry.register("base", &avro("12345"));
    let id = registry.register("top", &avro("123").reference("a", "base", 1).reference("b", "base", 1));
    let at = builder(&registry).texts_max(13).build().unwrap();
    assert_eq!(known(&at, id).await.references.len(), 2);
    let past = builder(&registry).texts_max(12).build().unwrap();
    assert_eq!(unreadable(&past, id).await, "it and what it refers to have more than 12 bytes");
    let alone = builder(&registry).texts_max(2).build().unwrap();
    assert_eq!(unreadable(&alone, id).await, "it has more than 2 bytes");
}
