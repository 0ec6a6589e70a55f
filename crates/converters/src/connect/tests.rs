use aqueduct_core::{Composite, Decimal, SkipReason, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::tests::{convert, fingerprint};

fn read(text: &str) -> Result<ConnectValue, Poison> {
    match convert(&ConnectJson::new(), Some(text.as_bytes()))? {
        Converted::Emit(value) => Ok(value),
        Converted::Skip(reason) => panic!("{reason:?}"),
    }
}

fn json(value: &ConnectValue) -> String {
    let mut out = Vec::new();
    value.write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn envelope(schema: &str, payload: &str) -> String {
    format!("{{\"schema\": {schema}, \"payload\": {payload} }}")
}

const EVERYTHING: &str = r#"{"type":"struct","name":"shop.Order","version":3,"fields":[
    {"field":"tiny","type":"int8"}, {"field":"small","type":"int16"}, {"field":"int","type":"int32"},
    {"field":"long","type":"int64","doc":"counted"}, {"field":"f","type":"float"}, {"field":"d","type":"double"},
    {"field":"yes","type":"boolean"}, {"field":"text","type":"string","default":"none"},
    {"field":"blob","type":"bytes"},
    {"field":"price","type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"10"}},
    {"field":"day","type":"int32","name":"org.apache.kafka.connect.data.Date","version":1},
    {"field":"at","type":"int32","name":"org.apache.kafka.connect.data.Time","version":1},
    {"field":"when","type":"int64","name":"org.apache.kafka.connect.data.Timestamp","version":1},
    {"field":"tags","type":"array","items":{"type":"string","optional":true}},
    {"field":"counts","type":"map","keys":{"type":"string"},"values":{"type":"int32"}},
    {"field":"by_day","type":"map","keys":{"type":"int32"},"values":{"type":"struct","fields":[{"field":"x","type":"int8"}]}},
    {"field":"note","type":"string","optional":true}]}"#;

#[test]
fn every_type_of_connect_is_read() {
    let payload = r#"{"tiny":-128,"small":32767,"int":1,"long":-9223372036854775808,"f":0.1,"d":1e300,"yes":true,
        "text":null,"blob":"/wA=","price":"MDk=","day":18806,"at":27000250,"when":1624865400250,"tags":["a",null],
        "counts":{"k":1},"by_day":[[7,{"x":1}],[-8,{"x":2}]],"more":[1,2]}"#;
    let value = read(&envelope(EVERYTHING, payload)).unwrap();
    assert_eq!(
        value.schema().unwrap().to_string(),
        "shop.Order/3 struct{tiny:int8,small:int16,int:int32,long:int64,f:float32,d:float64,yes:bool,text:string,blob:bytes,price:decimal(10,2),day:date,at:time(ms),when:timestamp(ms),tags:list<string?>,counts:map<int32>,by_day:map<struct{x:int8}>,note:string?}"
    );
    assert_eq!(
        json(&value),
        r#"{"tiny":-128,"small":32767,"int":1,"long":-9223372036854775808,"f":0.1,"d":1e300,"yes":true,"text":"none","blob":"/wA=","price":123.45,"day":"2021-06-28","at":"07:30:00.250","when":"2021-06-28T07:30:00.250Z","tags":["a",null],"counts":{"k":1},"by_day":{"7":{"x":1},"-8":{"x":2}}}"#
    );
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field("price"), Some(FieldValue::Decimal(Decimal::new(&[0x30, 0x39][..], 2))));
    assert_eq!(field("day"), Some(FieldValue::Date(18_806)));
    assert_eq!(
        field("when"),
        Some(FieldValue::Timestamp { count: 1_624_865_400_250, unit: TimeUnit::Millis, utc: true })
    );
    assert_eq!(field("text"), Some(FieldValue::Str("none".into())));
    assert_eq!(field("counts.k"), Some(FieldValue::I64(1)));
    assert_eq!(field("tags"), Some(FieldValue::Composite));
    assert_eq!(field("note").or(field("more")).or(field("counts.x")), None);
    let fields = value.schema().unwrap().fields();
    assert_eq!(fields[3].doc(), Some("counted"));
    assert_eq!(fields[7].default(), Some(&aqueduct_core::Literal::Scalar(FieldValue::Str("none".into()))));
}

#[test]
fn what_defaults_unfold_to_has_a_limit() {
    // A hundred of the next in each: a hundred to the power of `levels` in some kilobytes.
    let nested = |levels: usize| {
        let elements = format!("[{}]", vec!["{}"; 100].join(","));
        (0..levels).fold(r#"{"type":"int8","field":"x","default":1}"#.to_owned(), |inner, _| {
            format!(r#"{{"type":"array","field":"x","items":{{"type":"struct","fields":[{inner}]}},"default":{elements}}}"#)
        })
    };
    let value = read(&envelope(&nested(2), "null")).unwrap();
    assert_eq!(json(&value).matches("{\"x\":1}").count(), 10_000);
    let poison = read(&envelope(&nested(8), "null")).unwrap_err();
    assert!(poison.detail().contains("unfolds to more than 1048576 bytes"), "{poison}");
    // Nor may a small payload be made of many large ones.
    let schema =
        format!(r#"{{"type":"array","items":{{"type":"string","default":"{}"}}}}"#, "x".repeat(2000));
    let nulls = |count: usize| format!("[{}]", vec!["null"; count].join(","));
    read(&envelope(&schema, &nulls(10_000))).unwrap_err();
    read(&envelope(&schema, &nulls(1000))).unwrap();
    let members: Vec<String> =
        (0..1000).map(|index| format!(r#"{{"field":"{index}","type":"int8","optional":true}}"#)).collect();
    let schema =
        format!(r#"{{"type":"array","items":{{"type":"struct","fields":[{}]}}}}"#, members.join(","));
    let structs = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    read(&envelope(&schema, &structs(1000))).unwrap();
    assert_eq!(read(&envelope(&schema, &structs(10_000))).unwrap_err().reason(), PoisonReason::TooLarge);
}

#[test]
fn values_of_one_schema_share_it() {
    let converter = ConnectJson::new();
    let value = |payload: &str| match convert(
        &converter,
        Some(envelope(r#"{"type":"int32"}"#, payload).as_bytes()),
    ) {
        Ok(Converted::Emit(value)) => value,
        other => panic!("{other:?}"),
    };
    let (one, two) = (value("1"), value("2"));
    assert!(Arc::ptr_eq(one.schema().unwrap(), two.schema().unwrap()));
    assert_eq!((json(&one), json(&two)), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn decimals_come_as_numbers_too() {
    let price = |scale: u32, payload: &str| {
        let schema = format!(
            r#"{{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{{"scale":"{scale}"}}}}"#
        );
        read(&envelope(&schema, payload))
            .map(|value| json(&value))
            .map_err(|poison| poison.detail().to_owned())
    };
    assert_eq!(price(2, "12.5").unwrap(), "12.50");
    assert_eq!(price(2, "-0.05").unwrap(), "-0.05");
    assert_eq!(price(2, "1.20000").unwrap(), "1.20");
    assert_eq!(price(0, "1e3").unwrap(), "1000");
    assert_eq!(price(2, "1.5E-1").unwrap(), "0.15");
    assert_eq!(price(2, "0e-99999").unwrap(), "0.00");
    assert!(price(2, "1.234").unwrap_err().contains("2 digits behind its point"));
    assert!(price(2, "1e99999").is_err() && price(2, "true").is_err() && price(2, "\"!\"").is_err());
    assert!(price(77, "1").unwrap_err().contains("scale"));
}

#[test]
fn a_payload_that_does_not_fit_is_poison_that_names_the_place() {
    let schema = r#"{"type":"struct","fields":[{"field":"a","type":"struct","fields":[{"field":"b","type":"array","items":{"type":"int8"}}]},
        {"field":"m","type":"map","keys":{"type":"string"},"values":{"type":"string"},"optional":true}]}"#;
    for (payload, said) in [
        (
            r#"{"a":{"b":[1,128]}}"#,
            "invalid-field: a.b[1]: expected a whole number from -128 to 127, found a number that is none",
        ),
        (r#"{"a":{"b":["x"]}}"#, "a.b[0]: expected a whole number from -128 to 127, found a text"),
        (r#"{"a":{"b":[null]}}"#, "null-value: a.b[0] is null and must not be"),
        (r#"{"a":{"b":{}}}"#, "a.b: expected a list, found an object"),
        (r#"{"a":{}}"#, "missing-field: a.b is missing"),
        ("{}", "missing-field: a is missing"),
        ("null", "null-value: the value is null"),
        ("[]", "the value: expected an object, found a list"),
        (r#"{"a":{"b":[]},"a":{"b":[]}}"#, "malformed: a comes twice"),
        (r#"{"a":{"b":[]},"m":{"hunter2":"x","hunter3":7}}"#, "m[1]: expected text, found a number"),
    ] {
        let poison = read(&envelope(schema, payload)).unwrap_err().to_string();
        assert!(poison.contains(said) && !poison.contains("hunter"), "{payload}: {poison}");
    }
}

#[test]
fn what_is_no_envelope_says_so() {
    for (text, said) in [
        ("1", "it is no object"),
        ("{}", "no schema or no payload"),
        (r#"{"schema":null}"#, "no schema or no payload"),
        (r#"{"schema":null,"payload":1,"x":2}"#, "other members"),
        (r#"{"schema":null,"schema":null,"payload":1}"#, "twice"),
        (r#"{"schema":{"type":"int31"},"payload":1}"#, "none of connect's"),
        (r#"{"schema":{"type":"array"},"payload":[]}"#, "an array has no \"items\""),
        (r#"{"schema":{"type":"struct","fields":[{"type":"int8"}]},"payload":{}}"#, "no \"field\""),
        (
            r#"{"schema":{"type":"struct","fields":[{"field":"a","type":"int8"},{"field":"a","type":"int8"}]},"payload":{}}"#,
            "twice",
        ),
        (r#"{"schema":{"type":"int8","default":300},"payload":1}"#, "the default of"),
        (r#"{"schema":7,"payload":1}"#, "no schema of connect"),
    ] {
        let poison = read(text).unwrap_err().to_string();
        assert!(poison.contains(said), "{text}: {poison}");
    }
}

#[test]
fn schemas_have_limits() {
    let padded = |bytes: usize| {
        let schema = r#"{"type":"int8","doc":""}"#;
        schema.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - schema.len())))
    };
    read(&envelope(&padded(schema::SCHEMA_MAX), "1")).unwrap();
    let poison = read(&envelope(&padded(schema::SCHEMA_MAX + 1), "1")).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
    let nested = |levels: usize| {
        format!(
            "{}{}{}",
            r#"{"type":"array","items":"#.repeat(levels),
            r#"{"type":"int8"}"#,
            "}".repeat(levels)
        )
    };
    read(&envelope(&nested(100), "[]")).unwrap();
    read(&envelope(&nested(126), "[]")).unwrap_err();
}

#[test]
fn without_a_schema_the_payload_is_any_json() {
    let value = read(&envelope("null", r#"{"a": {"b": 1.50}}"#)).unwrap();
    assert!(value.schema().is_none());
    assert_eq!(json(&value), r#"{"a": {"b": 1.50}}"#);
    assert_eq!(value.field(&FieldPath::parse("a.b").unwrap()), Some(FieldValue::F64(1.5)));
}

#[test]
fn tombstones_follow_the_option() {
    let converter = |tombstones| ConnectJson::new().tombstones(tombstones);
    assert_eq!(convert(&converter(Tombstones::Skip), None).unwrap(), Converted::Skip(SkipReason::Tombstone));
    let Ok(Converted::Emit(null)) = convert(&converter(Tombstones::Null), None) else { panic!("null") };
    assert_eq!(json(&null), "null");
    assert!(convert(&ConnectJson::new(), None).is_err());
    assert_ne!(fingerprint(&converter(Tombstones::Null)), fingerprint(&ConnectJson::new()));
}

/// Names of members in order.
#[derive(Default)]
struct Names(Vec<String>);

impl ValueVisitor for Names {
    fn scalar(&mut self, _: FieldValue<'_>) -> Result<(), Poison> {
        Ok(())
    }

    fn begin(&mut self, _: Composite) -> Result<(), Poison> {
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.0.push(name.to_owned());
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        Ok(())
    }
}

#[test]
fn structs_of_more_members_than_a_word_has_bits() {
    let field = |index: usize| format!(r#"{{"field":"f{index}","type":"int32","default":{index}}}"#);
    let fields: Vec<String> = (0..300).map(field).collect();
    let schema = format!(r#"{{"type":"struct","fields":[{}]}}"#, fields.join(","));
    let value = read(&envelope(&schema, r#"{"f299":1,"f127":2,"f128":3}"#)).unwrap();
    let mut names = Names::default();
    value.visit(&mut names).unwrap();
    assert_eq!(names.0.len(), 300);
    names.0.sort();
    names.0.dedup();
    assert_eq!(names.0.len(), 300);
    assert!(
        read(&envelope(&schema, r#"{"f200":1,"f200":2}"#)).unwrap_err().detail().contains("f200 comes twice")
    );
}

proptest! {
    #[test]
    fn numbers_and_texts_come_back(
        number: i64,
        text: String,
        list in prop::collection::vec(any::<Option<bool>>(), 0..20),
        // A few: most of the time goes into making texts up.
        map in prop::collection::btree_map(any::<String>(), any::<i32>(), 0..6),
    ) {
        let schema = r#"{"type":"struct","fields":[{"field":"n","type":"int64"},{"field":"t","type":"string"},
            {"field":"l","type":"array","items":{"type":"boolean","optional":true}},
            {"field":"m","type":"map","keys":{"type":"string"},"values":{"type":"double"}}]}"#;
        let map: std::collections::BTreeMap<_, _> = map.into_iter().map(|(key, it)| (key, f64::from(it) / 8.0)).collect();
        let payload = serde_json::json!({"n": number, "t": text, "l": list, "m": map});
        let value = read(&envelope(schema, &payload.to_string())).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json(&value)).unwrap();
        prop_assert_eq!(read.to_string(), serde_json::from_str::<serde_json::Value>(&payload.to_string()).unwrap().to_string());
    }

    #[test]
    fn any_payload_fits_or_is_poison(payload in "[\\[\\]{}\":,a-f0-9.ntrue\\\\ -]{0,40}") {
        if let Ok(value) = read(&envelope(EVERYTHING, &payload)) {
            value.write_json(&mut Vec::new()).unwrap();
        }
    }
}
