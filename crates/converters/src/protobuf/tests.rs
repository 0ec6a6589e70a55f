use aqueduct_core::{
    BatchBuilder, Offset, Permit, PoisonReason, SkipReason, TimeUnit, Timestamp, TopicPartition,
};
use proptest::prelude::*;
use proptest::sample::Index;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

use super::*;
use crate::registry::wire::{write_message_indexes, write_prefix};
use crate::registry::{FixedSchemas, Reference, RegisteredSchema, SchemaKind, SubjectVersion};
use crate::tests::fingerprint;

const EVERYTHING: &str = r#"syntax = "proto3";
    package test;
    import "google/protobuf/wrappers.proto";
    import "google/protobuf/struct.proto";
    enum E { ZERO = 0; ONE = 1; TWO = 2; }
    message M {
        double d = 1; float f = 2; int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6; sint32 s32 = 7; sint64 s64 = 8;
        fixed32 x32 = 9; fixed64 x64 = 10; sfixed32 y32 = 11; sfixed64 y64 = 12; bool b = 13; string s = 14; bytes y = 15;
        E e = 16; M m = 17; repeated int32 ri = 18; repeated string rs = 19; repeated M rm = 20;
        map<string, int32> ms = 21; map<int64, M> mm = 22; map<bool, E> mb = 23;
        oneof o { int32 oa = 24; string ob = 25; M oc = 26; }
        optional int32 p = 27; google.protobuf.Int64Value w = 28; repeated E re = 29; repeated double rd = 30 [packed = false];
        google.protobuf.Struct st = 31;
    }"#;

fn descriptor(text: &str, name: &str) -> MessageDescriptor {
    source::in_file(&source::compile(text, HashMap::new()).unwrap(), name).unwrap()
}

fn value(plan: &Arc<Plan>, bytes: &[u8]) -> Result<ProtobufValue, Poison> {
    walk::visit(plan, bytes, &mut Nobody)?;
    Ok(ProtobufValue { message: Bytes::copy_from_slice(bytes), plan: Some(Arc::clone(plan)) })
}

fn json(value: &ProtobufValue) -> String {
    let mut out = Vec::new();
    value.write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What the message says, or why not.
fn read(text: &str, bytes: &[u8]) -> Result<String, String> {
    let plan = Arc::new(plan::plan(&descriptor(text, "M"), None).unwrap());
    value(&plan, bytes).map(|value| json(&value)).map_err(|poison| poison.to_string())
}

fn schema(text: &str) -> String {
    plan::plan(&descriptor(text, "M"), None).map_or_else(|why| why, |plan| plan.schema.to_string())
}

#[test]
fn types_become_columns() {
    assert_eq!(
        schema(EVERYTHING),
        "test.M struct{d:float64,f:float32,i32:int32,i64:int64,u32:uint32,u64:uint64,s32:int32,s64:int64,x32:uint32,x64:uint64,y32:int32,y64:int64,b:bool,s:string,y:bytes,e:string,m:json?,ri:list<int32>,rs:list<string>,rm:list<json?>,ms:map<int32>,mm:map<json?>,mb:map<string>,oa:int32?,ob:string?,oc:json?,p:int32?,w:int64?,re:list<string>,rd:list<float64>,st:json?}"
    );
    let text = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
        import "google/protobuf/any.proto"; import "google/protobuf/empty.proto";
        message M { google.protobuf.Timestamp at = 2; google.protobuf.Duration took = 1; google.protobuf.Any any = 3;
            google.protobuf.Empty none = 4; Inner inner = 5; message Inner { int32 x = 1; repeated Leaf leaves = 2; } }
        message Leaf { bool yes = 1; }"#;
    assert_eq!(
        schema(text),
        "M struct{at:timestamp(us)?,took:decimal(21,9)?,any:json?,none:json?,inner:struct{x:int32,leaves:list<struct{yes:bool}>}?}"
    );
    let text = r#"syntax = "proto2"; message M { required int32 r = 1; optional string o = 2 [default = "x"];
        repeated group G = 3 { optional int32 a = 1; } }"#;
    assert_eq!(schema(text), "M struct{r:int32,o:string?,g:list<struct{a:int32?}>}");
}

#[test]
fn comments_are_documentation() {
    let text = "syntax = \"proto3\";\nmessage M {\n  // The order's\n  // number.\n  int32 id = 1;\n  string note = 2; // In words.\n  bool bare = 3;\n}";
    let plan = plan::plan(&descriptor(text, "M"), None).unwrap();
    let docs: Vec<_> = plan.schema.fields().iter().map(aqueduct_core::Field::doc).collect();
    assert_eq!(docs, [Some("The order's number."), Some("In words."), None]);
}

const TIMES: &str = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
    import "google/protobuf/any.proto"; import "google/protobuf/struct.proto"; import "google/protobuf/wrappers.proto";
    enum E { A = 0; B = -1; }
    message M { google.protobuf.Timestamp at = 1; google.protobuf.Duration took = 2; google.protobuf.Any any = 3;
        google.protobuf.Value value = 4; E e = 5; google.protobuf.StringValue text = 6; google.protobuf.ListValue list = 7; }"#;

#[test]
fn well_known_types_are_read_as_what_they_stand_for() {
    for (bytes, text) in [
        // 1.5 s before 1970, with 123456789 ns; a moment is counted on from its second.
        (
            &b"\x0a\x10\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x95\x9a\xef\x3a"[..],
            r#"{"at":"1969-12-31T23:59:58.123456Z","e":"A"}"#,
        ),
        (b"\x0a\x00", r#"{"at":"1970-01-01T00:00:00.000000Z","e":"A"}"#),
        (b"\x12\x02\x08\x03", r#"{"took":3.000000000,"e":"A"}"#),
        (b"\x12\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", r#"{"took":-0.000000001,"e":"A"}"#),
        (b"\x1a\x06\x0a\x01u\x12\x01\xff", r#"{"any":{"@type":"u","value":"/w=="},"e":"A"}"#),
        (b"\x22\x02\x08\x00", r#"{"value":null,"e":"A"}"#),
        (b"\x22\x00", r#"{"value":null,"e":"A"}"#),
        (b"\x22\x03\x1a\x01x", r#"{"value":"x","e":"A"}"#),
        (b"\x22\x02\x20\x01", r#"{"value":true,"e":"A"}"#),
        (b"\x22\x0d\x2a\x0b\x0a\x09\x0a\x01k\x12\x04\x32\x02\x0a\x00", r#"{"value":{"k":[null]},"e":"A"}"#),
        (b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", r#"{"e":"B"}"#),
        (b"\x28\x07", r#"{"e":"7"}"#),
        (b"\x32\x00", r#"{"e":"A","text":""}"#),
        (b"\x3a\x05\x0a\x03\x1a\x01x", r#"{"e":"A","list":["x"]}"#),
    ] {
        assert_eq!(read(TIMES, bytes).unwrap(), text, "{bytes:02x?}");
    }
    for (bytes, said) in [
        (&b"\x0a\x07\x08\x80\x80\x80\x80\x80\x40"[..], "outside of the years 1 to 9999"),
        (b"\x0a\x06\x10\x80\x94\xeb\xdc\x03", "outside of the years 1 to 9999"),
        (b"\x12\x0d\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a duration is out of range"),
        (b"\x0a\x02\x0a\x00", "something else than numbers"),
    ] {
        let poison = read(TIMES, bytes).unwrap_err();
        assert!(poison.contains(said), "{bytes:02x?}: {poison}");
    }
}

const SMALL: &str = r#"syntax = "proto3"; message M { int32 a = 1; string s = 2; M m = 3; repeated int32 r = 4; map<string, int32> map = 5;
    oneof o { int32 x = 6; M y = 7; } }"#;

#[test]
fn parts_are_put_together_and_the_last_counts() {
    for (bytes, text) in [
        (&b""[..], r#"{"a":0,"s":"","r":[],"map":{}}"#),
        (b"\x08\x01\x08\x02", r#"{"a":2,"s":"","r":[],"map":{}}"#),
        // A message in two parts, a list packed and not, scattered.
        (b"\x20\x01\x1a\x02\x08\x01\x22\x02\x02\x03\x1a\x03\x12\x01x\x20\x04",
            r#"{"a":0,"s":"","m":{"a":1,"s":"x","r":[],"map":{}},"r":[1,2,3,4],"map":{}}"#),
        // Entries with one key, one without a key, one without a value.
        (b"\x2a\x05\x0a\x01k\x10\x01\x2a\x02\x10\x05\x2a\x05\x0a\x01k\x10\x02\x2a\x03\x0a\x01l",
            r#"{"a":0,"s":"","r":[],"map":{"":5,"k":2,"l":0}}"#),
        // y, x, y: the first y is gone.
        (b"\x3a\x02\x08\x01\x30\x02\x3a\x03\x12\x01x", r#"{"a":0,"s":"","r":[],"map":{},"y":{"a":0,"s":"x","r":[],"map":{}}}"#),
        (b"\x3a\x02\x08\x01\x30\x02", r#"{"a":0,"s":"","r":[],"map":{},"x":2}"#),
        // Unknown fields of all wire types, a group in a group among them.
        (b"\xa0\x06\x01\xa1\x0612345678\xa2\x06\x01x\xa3\x06\xab\x06\x08\x01\xac\x06\xa4\x06\xa5\x061234\x08\x07",
            r#"{"a":7,"s":"","r":[],"map":{}}"#),
    ] {
        assert_eq!(read(SMALL, bytes).unwrap(), text, "{bytes:02x?}");
    }
}

#[test]
fn what_is_damaged_is_poison() {
    for (bytes, said) in [
        (&b"\x08"[..], "ends within a number"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than ten bytes"),
        (b"\x12\x05x", "past the end"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "past the end"),
        (b"\x12\x01\xff", "the field s is not utf-8"),
        (b"\x00\x01", "the number 0"),
        (b"\x0e\x01", "no wire type"),
        (b"\x0c", "a group ends that has not begun"),
        (b"\xa3\x06\xac\x06", "a group ends that has not begun"),
        (b"\xa3\x06", "ends within a number"),
        (b"\x0a\x01x", "the field a is encoded as something else"),
        (b"\x18\x01", "the field m is encoded as something else"),
        (b"\x28\x01", "the field map is encoded as something else"),
        (b"\x22\x01\x80", "ends within a number"),
        (b"\x25\x00\x00\x00\x00", "the field r is encoded as something else"),
    ] {
        let poison = read(SMALL, bytes).unwrap_err();
        assert!(poison.contains(said), "{bytes:02x?}: {poison}");
    }
    let required = r#"syntax = "proto2"; message M { required int32 r = 1; }"#;
    assert_eq!(read(required, b"").unwrap_err(), "missing-field: r is missing");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |levels: usize| {
        (1..levels).fold(Vec::new(), |inner: Vec<u8>, _| {
            let mut length = inner.len();
            let mut message = vec![0x1a];
            while length >= 0x80 {
                message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            message.push(u8::try_from(length).unwrap());
            message.extend(inner);
            message
        })
    };
    // The innermost has a list.
    read(SMALL, &nested(127)).unwrap();
    assert!(read(SMALL, &nested(128)).unwrap_err().contains("deeper than 128"));
    let groups = |levels: usize| [b"\xa3\x06".repeat(levels), b"\xa4\x06".repeat(levels)].concat();
    read(SMALL, &groups(128)).unwrap();
    assert!(read(SMALL, &groups(129)).unwrap_err().contains("deeper than 128"));
}

#[test]
fn types_that_only_have_googles_names_are_not_googles() {
    let own = r#"syntax = "proto3"; package google.protobuf; message Int64Value { Int64Value value = 1; }
        message Value { Value value = 1; } message Timestamp { string text = 1; }
        message M { Int64Value w = 1; Value v = 2; Timestamp t = 3; }"#;
    assert_eq!(
        schema(own),
        "google.protobuf.M struct{w:struct{value:json?}?,v:struct{value:json?}?,t:struct{text:string}?}"
    );
    let nested = |levels: usize| (0..levels).fold(Vec::new(), |inner, _| length(1, &inner));
    assert_eq!(read(own, &length(2, &nested(1))).unwrap(), r#"{"v":{"value":{}}}"#);
    read(own, &length(2, &nested(126))).unwrap();
    assert!(read(own, &length(2, &nested(20_000))).unwrap_err().contains("deeper than 128"));
    // A descriptor set may have such types even in files with Google's names.
    let file = |name: &str, message: &str| {
        let file = source::compile(&own.replace("message M", "message N"), HashMap::new()).unwrap();
        let mut file = file.file_descriptor_proto().clone();
        file.name = Some(name.to_owned());
        let mut pool = prost_reflect::DescriptorPool::new();
        pool.add_file_descriptor_proto(file).unwrap();
        plan::plan(&pool.get_message_by_name(&format!("google.protobuf.{message}")).unwrap(), None)
    };
    assert_eq!(
        file("google/protobuf/wrappers.proto", "Int64Value").unwrap_err(),
        "a wrapper holds a message"
    );
    let plan = Arc::new(file("google/protobuf/struct.proto", "Value").unwrap());
    value(&plan, &nested(257)).unwrap();
    let poison = value(&plan, &nested(258)).unwrap_err();
    assert!(poison.detail().contains("deeper than 128"), "{poison}");
}

#[test]
fn parts_of_parts_have_a_limit() {
    // Each level in two parts, the second of which holds the next.
    let split = |levels: usize| {
        (0..levels).fold(vec![0x12, 0x64], |inner: Vec<u8>, level| {
            let inner = if level == 0 { [inner, vec![b'x'; 100]].concat() } else { inner };
            let (low, high) = (inner.len() & 0x7f | 0x80, inner.len() >> 7);
            let head = [0x1a, u8::try_from(low).unwrap(), u8::try_from(high).unwrap()];
            [&[0x1a, 0x00][..], &head, &inner].concat()
        })
    };
    read(SMALL, &split(3)).unwrap();
    assert!(read(SMALL, &split(60)).unwrap_err().contains("too many parts of parts"));
}

#[test]
fn what_a_message_unfolds_to_has_a_limit() {
    let names: Vec<String> = (1..=1000).map(|number| format!("int32 n{number:0>99} = {number};")).collect();
    let long = "A".repeat(2000);
    let text = format!(
        "syntax = \"proto3\"; message W {{ {} }} enum E {{ {long} = 0; }} message M {{ repeated W ws = 1; repeated E es = 2; }}",
        names.concat()
    );
    let plan = Arc::new(plan::plan(&descriptor(&text, "M"), None).unwrap());
    // An empty one takes two bytes and becomes 101 for each of its members; the two names of the root take six.
    let of_w = |count: usize| length(1, &[]).repeat(count);
    let most = (crate::unfold::MAX - 6) / (101_000 - 2 * crate::unfold::PER_BYTE);
    value(&plan, &of_w(most as usize)).unwrap();
    let poison = value(&plan, &of_w(most as usize + 1)).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
    assert!(poison.detail().contains("unfolds to more than 1048576 bytes"), "{poison}");
    // A symbol takes one byte.
    value(&plan, &length(2, &[0; 500])).unwrap();
    assert_eq!(value(&plan, &length(2, &[0; 1000])).unwrap_err().reason(), PoisonReason::TooLarge);
    // An absent member that is shown as nothing has to be passed over all the same.
    let names: Vec<String> =
        (1..=1000).map(|number| format!("optional int32 n{number} = {number};")).collect();
    let text =
        format!("syntax = \"proto3\"; message W {{ {} }} message M {{ repeated W ws = 1; }}", names.concat());
    let plan = Arc::new(plan::plan(&descriptor(&text, "M"), None).unwrap());
    value(&plan, &of_w(2000)).unwrap();
    assert_eq!(value(&plan, &of_w(3000)).unwrap_err().reason(), PoisonReason::TooLarge);
}

#[test]
fn fields_are_found_by_path() {
    let plan = Arc::new(plan::plan(&descriptor(SMALL, "M"), None).unwrap());
    let bytes = b"\x1a\x02\x08\x01\x1a\x03\x12\x01x\x22\x02\x02\x03\x2a\x05\x0a\x01k\x10\x01\x2a\x05\x0a\x01k\x10\x02\x2a\x03\x0a\x01l\x30\x05";
    let value = value(&plan, bytes).unwrap();
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(
        (field("a"), field("m.a"), field("m.s")),
        (Some(FieldValue::I64(0)), Some(FieldValue::I64(1)), Some(FieldValue::Str("x".into())))
    );
    assert_eq!(
        (field("map.k"), field("map.l"), field("x")),
        (Some(FieldValue::I64(2)), Some(FieldValue::I64(0)), Some(FieldValue::I64(5)))
    );
    assert_eq!(
        (field("r"), field("map"), field("m")),
        (Some(FieldValue::Composite), Some(FieldValue::Composite), Some(FieldValue::Composite))
    );
    assert_eq!(
        field("m.m")
            .or(field("y"))
            .or(field("y.a"))
            .or(field("map.z"))
            .or(field("a.b"))
            .or(field("r.x"))
            .or(field("z")),
        None
    );
    let plan = Arc::new(plan::plan(&descriptor(TIMES, "M"), None).unwrap());
    let value =
        tests::value(&plan, b"\x0a\x02\x08\x01\x22\x0c\x2a\x0a\x0a\x08\x0a\x01k\x12\x03\x1a\x01x\x32\x00")
            .unwrap();
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(
        field("at"),
        Some(FieldValue::Timestamp { count: 1_000_000, unit: TimeUnit::Micros, utc: true })
    );
    assert_eq!(
        (field("value.k"), field("value")),
        (Some(FieldValue::Str("x".into())), Some(FieldValue::Composite))
    );
    assert_eq!(
        (field("text"), field("value.l"), field("took")),
        (Some(FieldValue::Str("".into())), None, None)
    );
}

async fn converted(converter: &Protobuf, value: Option<&[u8]>) -> Result<Converted<ProtobufValue>, String> {
    let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
    batch.push(Offset::ZERO, Timestamp::None, None, value, []);
    let batch = batch.build(Permit::unlimited());
    converter.prepare(&batch).await.unwrap();
    converter.convert(&batch.get(0).unwrap()).map_err(|poison| poison.to_string())
}

#[tokio::test]
async fn values_tell_the_version_of_their_schema() {
    let text = r#"syntax = "proto3"; message M { int32 a = 1; message N {} }"#;
    let mut schema = RegisteredSchema::new(1, SchemaKind::Protobuf, text);
    let at = |subject: &str, version| SubjectVersion { subject: subject.into(), version };
    schema.versions = vec![at("orders", 3), at("others", 4)];
    let converter = Protobuf::with_registry(FixedSchemas::new().with_schema(schema));
    let by_subject = converter.clone().subject("orders");
    for (converter, version) in [(&by_subject, Some(3)), (&converter, None)] {
        for indexes in [&[0][..], &[0, 0]] {
            let mut value = Vec::new();
            write_prefix(1, &mut value);
            write_message_indexes(indexes, &mut value);
            let Ok(Converted::Emit(value)) = converted(converter, Some(&value)).await else { panic!("an M") };
            assert_eq!(value.schema().unwrap().version(), version);
        }
    }
    assert_ne!(fingerprint(&converter), fingerprint(&by_subject));
}

#[tokio::test]
async fn schemas_come_from_the_registry_with_what_they_import() {
    let mut schema = RegisteredSchema::new(
        1,
        SchemaKind::Protobuf,
        r#"syntax = "proto3"; package shop; import "shop/item.proto"; import "confluent/meta.proto"; import "google/protobuf/timestamp.proto";
        message Order { Item item = 1 [(confluent.field_meta).doc = "x"]; map<string, int32> counts = 2; message Line { int32 n = 1; } }
        message Other { google.protobuf.Timestamp at = 1; }"#,
    );
    let text = r#"syntax = "proto3"; package shop; message Item { int32 x = 1; }"#.to_owned();
    schema.references =
        vec![Reference { name: "shop/item.proto".into(), subject: "item".into(), version: 1, text }];
    let schemas = FixedSchemas::new()
        .with_schema(schema)
        .with(2, SchemaKind::Json, "{}")
        .with(3, SchemaKind::Protobuf, "message {")
        .with(4, SchemaKind::Protobuf, r#"syntax = "proto3"; import "not/there.proto"; message M {}"#);
    let converter = Protobuf::with_registry(schemas);
    let framed = |id: u32, indexes: &[u32], message: &[u8]| {
        let mut value = Vec::new();
        write_prefix(id, &mut value);
        write_message_indexes(indexes, &mut value);
        value.extend_from_slice(message);
        value
    };
    for (indexes, message, text) in [
        (&[0][..], &b"\x0a\x02\x08\x05"[..], r#"{"item":{"x":5},"counts":{}}"#),
        // The type behind the map is not counted.
        (&[0, 0], b"\x08\x05", r#"{"n":5}"#),
        (&[1], b"", "{}"),
    ] {
        let Ok(Converted::Emit(value)) = converted(&converter, Some(&framed(1, indexes, message))).await
        else {
            panic!("{text}")
        };
        assert_eq!((json(&value), value.as_bytes()), (text.to_owned(), message));
        let Ok(Converted::Emit(again)) = converted(&converter, Some(&framed(1, indexes, b""))).await else {
            panic!("{text}")
        };
        assert!(Arc::ptr_eq(value.schema().unwrap(), again.schema().unwrap()));
    }
    for (bytes, said) in [
        (framed(1, &[2], b""), "no message at the indexes"),
        (framed(1, &[0, 1], b""), "no message at the indexes"),
        (framed(2, &[0], b""), "it is JSON, not Protobuf"),
        (framed(3, &[0], b""), "it does not compile"),
        (framed(4, &[0], b""), "it does not compile"),
        (framed(5, &[0], b""), "schema 5 is not in the registry"),
        (b"\x08\x01".to_vec(), "not with a schema's id"),
        (b"\0\0\0\0\x01\x80".to_vec(), "indexes of the protobuf message are damaged"),
    ] {
        let found = converted(&converter, Some(&bytes)).await.unwrap_err();
        assert!(found.contains(said), "{found}");
    }
    let skipping = converter.clone().tombstones(Tombstones::Skip);
    assert_eq!(converted(&skipping, None).await.unwrap(), Converted::Skip(SkipReason::Tombstone));
    let null = converter.clone().tombstones(Tombstones::Null);
    assert!(matches!(converted(&null, None).await, Ok(Converted::Emit(value)) if json(&value) == "null"));
    assert!(converted(&converter, None).await.is_err());
}

#[test]
fn types_that_cannot_be_used_say_why() {
    let proto = |text: &str, name: &str| Protobuf::proto(text, name).unwrap_err().to_string();
    assert!(proto(SMALL, "N").contains("it has no message \"N\""));
    assert!(proto("syntax = \"proto3\"; message M {", "M").contains("it does not compile"));
    assert!(
        proto(&format!("{}{}", "message M {".repeat(65), "}".repeat(65)), "M").contains("deeper than 64")
    );
    assert!(proto(&" ".repeat(2 << 20), "M").contains("the limit is 1048576"));
    // Each message has two of the next: a million columns in two kilobytes.
    let message = |index: usize| format!("message M{index} {{ M{0} a = 1; M{0} b = 2; }}", index + 1);
    let messages: Vec<String> = (0..20).map(message).collect();
    let bomb = format!("syntax = \"proto3\"; {} message M20 {{ int32 x = 1; }}", messages.concat());
    assert!(proto(&bomb, "M0").contains("more than 10000 fields"));
    // A name, and a comment, of 100 KB, 1 000 times.
    let long = "n".repeat(100_000);
    for inner in [format!("int32 {long} = 1;"), format!("\n// {long}\nint32 a = 1;")] {
        let fields: Vec<String> = (1..=1_000).map(|index| format!("R f{index} = {index};")).collect();
        let bomb =
            format!("syntax = \"proto3\"; message M {{ {} }} message R {{ {inner} }}", fields.join(" "));
        let said = Protobuf::proto(&bomb, "M").map_or_else(|error| error.to_string(), |_| "taken".to_owned());
        assert!(said.contains("more than 4194304 bytes of names"), "{said}");
    }
    let comments =
        "syntax = \"proto3\"; /* {{{{ */ // [[[[\n message M { string s = 1 [json_name = \"{{{\"]; }";
    Protobuf::proto(comments, "M").unwrap();
    let pool = descriptor(SMALL, "M").parent_pool().encode_to_vec();
    Protobuf::descriptor_set(&pool, "M").unwrap();
    assert!(Protobuf::descriptor_set(&pool, "N").unwrap_err().to_string().contains("no message"));
    assert!(Protobuf::descriptor_set(b"\xff", "M").unwrap_err().to_string().contains("no descriptor set"));
}

#[test]
fn all_that_decides_how_bytes_are_read_is_of_a_plain_converters_identity() {
    let digest = |fields: &str| {
        let text = format!(
            "syntax = \"proto3\"; enum E {{ ZERO = 0; ONE = 1; TWO = 2; }} enum F {{ NONE = 0; ONE_ = 2; TWO_ = 1; }} message M {{ {fields} }}"
        );
        fingerprint(&Protobuf::proto(&text, "M").unwrap()).digest()
    };
    let all = [
        "int32 a = 1; int32 b = 2;",
        "int32 a = 2; int32 b = 1;",
        "sint32 a = 1; int32 b = 2;",
        "sfixed32 a = 1; int32 b = 2;",
        "E a = 1;",
        "F a = 1;",
        "optional int32 a = 1; optional int32 b = 2;",
        "oneof o { int32 a = 1; int32 b = 2; }",
        "oneof o { int32 a = 1; } oneof p { int32 b = 2; }",
    ]
    .map(digest);
    assert!(all.iter().enumerate().all(|(index, digest)| !all[..index].contains(digest)));
    // However maps are ordered in this process.
    assert_eq!(digest("E a = 1; F b = 2;"), digest("E a = 1; F b = 2;"));
    // Golden: a change here makes intents of running pipelines unreadable.
    assert_eq!(digest("E a = 1; F b = 2;"), 3_841_626_698_857_732_985);
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
    out
}

fn tagged(number: u32, code: u32, content: &[u8]) -> Vec<u8> {
    [&varint(u64::from(number << 3 | code))[..], content].concat()
}

fn length(number: u32, content: &[u8]) -> Vec<u8> {
    tagged(number, 2, &[&varint(content.len() as u64)[..], content].concat())
}

/// Fields of `M` in any order and as often as it comes.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let number = prop::sample::select(vec![3_u32, 4, 5, 6, 7, 8, 13, 24, 27, 99]);
    let leaf = prop_oneof![
        (number, any::<u64>()).prop_map(|(number, it)| tagged(number, 0, &varint(it))),
        (prop::sample::select(vec![1_u32, 10, 12, 30]), any::<[u8; 8]>())
            .prop_map(|(number, it)| tagged(number, 1, &it)),
        (prop::sample::select(vec![2_u32, 9, 11]), any::<[u8; 4]>())
            .prop_map(|(number, it)| tagged(number, 5, &it)),
        (prop::sample::select(vec![14_u32, 15, 19, 25]), any::<String>())
            .prop_map(|(number, it)| length(number, it.as_bytes())),
        (prop::sample::select(vec![16_u32, 29]), 0..3_u64).prop_map(|(number, it)| tagged(
            number,
            0,
            &varint(it)
        )),
        (0..3_u64, 0..3_u64).prop_map(|(a, b)| length(29, &[varint(a), varint(b)].concat())),
        any::<Vec<i32>>().prop_map(|it| {
            let packed: Vec<u8> = it.iter().flat_map(|it| varint(i64::from(*it).cast_unsigned())).collect();
            length(18, &packed)
        }),
        any::<i32>().prop_map(|it| tagged(18, 0, &varint(i64::from(it).cast_unsigned()))),
        ("[a-c]", any::<i32>()).prop_map(|(key, it)| {
            length(
                21,
                &[length(1, key.as_bytes()), tagged(2, 0, &varint(i64::from(it).cast_unsigned()))].concat(),
            )
        }),
        (0..2_u64, 0..3_u64).prop_map(|(key, it)| length(
            23,
            &[tagged(1, 0, &varint(key)), tagged(2, 0, &varint(it))].concat()
        )),
        any::<i64>().prop_map(|it| length(28, &tagged(1, 0, &varint(it.cast_unsigned())))),
        ("[a-c]", "[a-z]{0,3}").prop_map(|(key, it)| {
            length(
                31,
                &length(1, &[length(1, key.as_bytes()), length(2, &length(3, it.as_bytes()))].concat()),
            )
        }),
    ];
    let message = prop::collection::vec(leaf, 0..6).prop_map(|fields| fields.concat());
    message.prop_recursive(3, 30, 4, |inner| {
        let nested = prop_oneof![
            (prop::sample::select(vec![17_u32, 20, 26]), inner.clone())
                .prop_map(|(number, it)| length(number, &it)),
            (0..3_u64, inner.clone())
                .prop_map(|(key, it)| length(22, &[tagged(1, 0, &varint(key)), length(2, &it)].concat())),
            inner,
        ];
        prop::collection::vec(nested, 0..4).prop_map(|parts| parts.concat())
    })
}

/// Absent and null are the same in columns.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name, without_nulls(member)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        serde_json::Value::Array(elements) => elements.into_iter().map(without_nulls).collect(),
        other => as_single(other),
    }
}

/// Where a number of 32 bits lies in the middle of two equally short texts, printers take either: 2097198.25 is .2 or .3. What has
/// as few digits as such a text is taken for the number of 32 bits it stands for.
fn as_single(value: serde_json::Value) -> serde_json::Value {
    const DIGITS_MAX: usize = 9;
    let text = value.to_string();
    match value.as_f64() {
        Some(number) if value.is_f64() && text.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what is no number of 32 bits has more digits"
            )]
            let single = f64::from(number as f32);
            if single.is_normal() { single.into() } else { value }
        }
        _ => value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_another_decoder_reads_is_read(bytes in fields()) {
        thread_local! {
            static TYPE: (MessageDescriptor, Arc<Plan>) = {
                let message = descriptor(EVERYTHING, "M");
                let plan = Arc::new(plan::plan(&message, None).unwrap());
                (message, plan)
            };
        }
        let (message, plan) = TYPE.with(Clone::clone);
        let expected = DynamicMessage::decode(message, &bytes[..]).unwrap();
        let mut text = Vec::new();
        let options = SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
        expected.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let read = value(&plan, &bytes).unwrap();
        let found: serde_json::Value = serde_json::from_str(&json(&read)).unwrap();
        prop_assert_eq!(without_nulls(found), without_nulls(expected.clone()));
        // Fields by path are the same as in the whole.
        let serde_json::Value::Object(members) = expected else { unreachable!() };
        for (name, member) in members {
            let mut text = Vec::new();
            match read.field(&FieldPath::parse(&name).unwrap()) {
                None => prop_assert!(member.is_null(), "{}", name),
                Some(FieldValue::Composite) => prop_assert!(member.is_object() || member.is_array(), "{}", name),
                Some(scalar) => {
                    ValueVisitor::scalar(&mut aqueduct_core::JsonText::new(&mut text), scalar).unwrap();
                    prop_assert_eq!(as_single(serde_json::from_slice(&text).unwrap()), as_single(member));
                }
            }
        }
    }

    #[test]
    fn damage_is_poison_or_another_value(bytes in fields(), at: Index, byte: u8) {
        let plan = Arc::new(plan::plan(&descriptor(SMALL, "M"), None).unwrap());
        let mut bytes = bytes;
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(value) = value(&plan, &bytes) {
            value.write_json(&mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
        let message = descriptor(SMALL, "M");
        let plan = Arc::new(plan::plan(&message, None).unwrap());
        if let Ok(value) = value(&plan, &bytes) {
            value.write_json(&mut Vec::new()).unwrap();
            prop_assert!(DynamicMessage::decode(message, &bytes[..]).is_ok());
        }
    }
}
