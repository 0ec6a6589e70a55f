//! Schemas by id, and how they get there.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::registry::{
    Entry, SchemaAnswer, SchemaCache, SchemaId, SchemaKind, SchemaSource, SubjectVersion,
};
use aqueduct_core::{Class, TopicPartition};
use aqueduct_schema_registry::testkit::{RegistryFault, TestRegistry};
use aqueduct_schema_registry::{NewSchema, RegistryClient, RegistryError};

use super::support::{TEXT, avro, builder, cause, client, known, targets, unreadable};

#[tokio::test]
async fn a_schema_is_found_by_its_number_and_by_its_guid() {
    let registry = TestRegistry::start().await;
    let id = registry.register("orders-value", &avro(TEXT));
    let client = client(&registry);
    let schema = known(&client, id).await;
    assert_eq!((schema.id, schema.kind, &*schema.text), (SchemaId::Number(1), SchemaKind::Avro, TEXT));
    assert!(schema.references.is_empty() && schema.versions.is_empty());
    let guid = registry.guid(id);
    assert_eq!(known(&client, guid).await.text, TEXT);
    assert_eq!(targets(&registry), ["GET /schemas/ids/1".to_owned(), format!("GET /schemas/guids/{guid}")]);
}

#[tokio::test]
async fn every_kind_is_told_and_others_cannot_be_read() {
    let registry = TestRegistry::start().await;
    let client = client(&registry);
    for kind in [SchemaKind::Protobuf, SchemaKind::Json, SchemaKind::Avro] {
        let id = registry.register("s", &NewSchema::new(kind, "text"));
        assert_eq!(known(&client, id).await.kind, kind);
    }
    let id = registry.register_kind("s", "XML\n", "<x/>");
    assert_eq!(unreadable(&client, id).await, r#"it is of kind "XML\\n""#);
}

#[tokio::test]
async fn only_the_registrys_own_word_makes_a_schema_unknown() {
    let registry = TestRegistry::start().await;
    let client = client(&registry);
    assert_eq!(client.schema(7.into()).await.unwrap(), SchemaAnswer::Unknown);
    assert_eq!(client.schema(registry.guid(7).into()).await.unwrap(), SchemaAnswer::Unknown);
    // Everything else that has a 404 in it is not that word.
    for fault in [
        RegistryFault::Body(404, String::new()),
        RegistryFault::Body(404, "<html>no such page</html>".to_owned()),
        RegistryFault::Body(404, r#"{"message": "Schema 7 not found"}"#.to_owned()),
        RegistryFault::Complaint(404, 404, "HTTP 404 Not Found".to_owned()),
        RegistryFault::Complaint(404, 40_401, "Subject not found".to_owned()),
        RegistryFault::Complaint(400, 40_403, "Schema not found".to_owned()),
    ] {
        registry.next(fault.clone());
        let error = client.schema(7.into()).await.unwrap_err();
        assert_eq!(error.class(), Class::Unknown, "{fault:?}");
        assert!(matches!(cause(&error), RegistryError::Unexpected { .. }), "{fault:?}");
    }
}

#[tokio::test]
async fn an_unknown_id_is_asked_for_again_until_that_was_in_vain_too_often() {
    let registry = TestRegistry::start().await;
    let follower = TestRegistry::start().await;
    registry.register("s", &avro("1"));
    let client =
        builder(&follower).url(registry.url()).unknown_again_after(Duration::from_millis(1)).build().unwrap();
    // The follower has not heard of it yet: the other one is asked.
    assert_eq!(known(&client, 1).await.text, "1");
    assert_eq!((follower.requests().len(), registry.requests().len()), (1, 1));
    for id in 100..200 {
        assert_eq!(client.schema(id.into()).await.unwrap(), SchemaAnswer::Unknown);
    }
    let asked = follower.requests().len() + registry.requests().len();
    assert_eq!(asked, 100 + RegistryClient::UNKNOWN_IN_VAIN);
    // One that is found makes the next ones worth a second question.
    follower.register("s", &avro("1"));
    known(&client, 1).await;
    follower.requests();
    registry.requests();
    client.schema(100.into()).await.unwrap();
    assert_eq!(follower.requests().len() + registry.requests().len(), 2);
}

#[tokio::test]
async fn a_subject_or_a_context_is_asked_with_the_id() {
    let registry = TestRegistry::start().await;
    registry.register("s", &avro(TEXT));
    known(&builder(&registry).subject(":.staging:orders & more").build().unwrap(), 1).await;
    assert_eq!(targets(&registry), ["GET /schemas/ids/1?subject=%3A.staging%3Aorders+%26+more"]);
}

#[tokio::test]
async fn versions_are_told_where_they_are_asked_for_and_the_registry_has_them() {
    let registry = TestRegistry::start().await;
    registry.register("returns-value", &avro("other"));
    let id = registry.register("returns-value", &avro(TEXT));
    registry.register("orders-value", &avro(TEXT));
    let client = builder(&registry).versions(true).build().unwrap();
    let at = |subject: &str, version| SubjectVersion { subject: subject.to_owned(), version };
    let schema = known(&client, id).await;
    assert_eq!(schema.versions, [at("orders-value", 1), at("returns-value", 2)]);
    assert_eq!(schema.version_in("returns-value"), Some(2));
    assert_eq!(targets(&registry), ["GET /schemas/ids/2", "GET /schemas/ids/2/versions"]);
    // GUIDs have none.
    assert!(known(&client, registry.guid(id)).await.versions.is_empty());
    // A registry that does not tell is no failure, one that is down is.
    for fault in [
        RegistryFault::Status(403),
        RegistryFault::Status(501),
        RegistryFault::Status(405),
        RegistryFault::Body(404, String::new()),
    ] {
        registry.requests();
        let pass = RegistryFault::Body(200, r#"{"schema": "\"int\"", "references": null}"#.to_owned());
        registry.next(pass);
        registry.next(fault.clone());
        assert!(known(&client, id).await.versions.is_empty(), "{fault:?}");
        assert_eq!(targets(&registry).len(), 2, "{fault:?}");
    }
    registry.next(RegistryFault::Body(200, r#"{"schema": "\"int\""}"#.to_owned()));
    registry.always(Some(RegistryFault::Status(500)));
    assert_eq!(client.schema(id.into()).await.unwrap_err().class(), Class::RETRY);
}

#[tokio::test]
async fn a_schema_is_registered_and_registered_again() {
    let registry = TestRegistry::start().await;
    let client = client(&registry);
    let money = NewSchema::new(SchemaKind::Protobuf, "message Money {}");
    let first = client.register("a/b money", &money).await.unwrap();
    assert_eq!(client.register("a/b money", &money).await.unwrap(), first);
    let order =
        NewSchema::new(SchemaKind::Protobuf, "message Order {}").reference("money.proto", "a/b money", 1);
    let second = client.register("order", &order).await.unwrap();
    assert_ne!(second, first);
    let requests = registry.requests();
    assert_eq!(requests[0].target, "/subjects/a%2Fb%20money/versions");
    assert_eq!(requests[0].body, r#"{"schema":"message Money {}","schemaType":"PROTOBUF"}"#);
    assert_eq!(requests[0].header("content-type"), Some("application/vnd.schemaregistry.v1+json"));
    let references = r#""references":[{"name":"money.proto","subject":"a/b money","version":1}]"#;
    assert!(requests[2].body.contains(references), "{}", requests[2].body);
    assert_eq!(known(&client, second).await.references.len(), 1);
}

#[tokio::test]
async fn a_schema_that_is_not_taken_is_refused_with_the_registrys_words() {
    let registry = TestRegistry::start().await;
    let client = client(&registry);
    let orphan = avro(TEXT).reference("Money", "money", 1);
    let error = client.register("order", &orphan).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(matches!(cause(&error), RegistryError::Refused { status: 422, code: 42_201, .. }), "{error:?}");
    let words = format!("incompatible\r\n{}", "é".repeat(1000));
    registry.next(RegistryFault::Complaint(409, 409, words));
    let error = client.register("order", &avro(TEXT)).await.unwrap_err();
    let RegistryError::Refused { status: 409, message, .. } = cause(&error) else { panic!("{error:?}") };
    assert!(message.starts_with("incompatible  é") && message.len() <= RegistryError::MESSAGE_MAX);
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_path_of_the_url_stays_in_front() {
    let registry = TestRegistry::start().await;
    for base in ["/apis/ccompat/v7", "/apis/ccompat/v7/"] {
        let client = RegistryClient::builder(format!("{}{base}", registry.url())).build().unwrap();
        client.schema(1.into()).await.unwrap_err();
        assert_eq!(targets(&registry), ["GET /apis/ccompat/v7/schemas/ids/1"]);
    }
}

#[tokio::test]
async fn the_cache_of_converters_goes_on_top() {
    let registry = TestRegistry::start().await;
    registry.register("s", &avro(TEXT));
    let client = Arc::new(client(&registry));
    let cache = SchemaCache::new(Arc::clone(&client), |schema| Ok::<_, String>(schema.text));
    let lane = TopicPartition::new("orders", 0);
    for _ in 0..3 {
        cache.prepare(&lane, [1.into(), 9.into()]).await.unwrap();
    }
    assert_eq!(registry.requests().len(), 2);
    assert_eq!(
        cache.read_entry(&lane, 1.into(), |entry| Some(entry?.clone())),
        Some(Entry::Known(TEXT.to_owned()))
    );
    assert_eq!(cache.read_entry(&lane, 9.into(), |entry| Some(entry?.clone())), Some(Entry::Unknown));
    registry.always(Some(RegistryFault::Reset));
    let error = cache.prepare(&lane, [2.into()]).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
}
