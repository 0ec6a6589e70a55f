//! The partitioner keeps the contract of partitioners, and routes are what they were yesterday.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct::testkit::{
    ScriptedRecord, check_fingerprints_differ, check_partitioner, fingerprint_of, record,
};
use aqueduct::{
    BatchBuilder, Converted, Converter as _, Fingerprint, Json, OwnedRecord, Partitioner, Permit, Poison,
    PoisonReason, Record, RoutePath, convert::JsonValue,
};
use custom_partitioner::by_tenant::{ByTenant, ID_MAX, LayoutError, SHARDS_MAX};

fn layout() -> ByTenant {
    let layout = ByTenant::named("tenant", "meta.tenant").unwrap();
    layout.own("acme", 4).unwrap().own("globex", 1).unwrap().shared(16).unwrap()
}

fn json(record: &Record<'_>) -> Option<JsonValue> {
    match Json::new().convert(record) {
        Ok(Converted::Emit(value)) => Some(value),
        _ => None,
    }
}

/// An event with the tenant in its field.
fn event(tenant: &str) -> ScriptedRecord {
    ScriptedRecord::new(format!(r#"{{"n":1,"meta":{{"tenant":"{tenant}"}}}}"#))
}

fn nobody() -> ScriptedRecord {
    ScriptedRecord::new(r#"{"n":1}"#)
}

fn routed(layout: &ByTenant, one: ScriptedRecord) -> Result<String, Poison> {
    routed_as(layout, &record(one))
}

fn routed_as(layout: &ByTenant, one: &OwnedRecord) -> Result<String, Poison> {
    let mut batch = BatchBuilder::new(one.lane.clone(), 0);
    let headers = one.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
    batch.push(one.offset, one.timestamp, one.key.as_deref(), one.value.as_deref(), headers);
    let batch = batch.build(Permit::unlimited());
    let one = batch.get(0).unwrap();
    let mut path = RoutePath::default();
    layout.route(&one, &json(&one).unwrap(), &mut path).map(|()| path.as_str().to_owned())
}

#[test]
fn the_contract_holds() {
    let events = [
        event("acme").key("order-1"),
        event("acme"),
        event("globex"),
        event("initech").header("tenant", "initech"),
        event("initech").header("tenant", "acme"),
        nobody().header("tenant", &b"\xff"[..]),
        nobody(),
        event("../acme"),
    ];
    // Hostile records come on top of these.
    check_partitioner(&layout(), &events.map(record), json);
}

/// Written down, and not computed: who changes one of these lines changes where records are, and has to give the layout
/// another number in its fingerprint.
#[test]
fn routes_are_what_they_were() {
    let golden = [
        (event("acme").key("order-1"), "tenant=acme/shard=03"),
        (event("acme").key("order-2"), "tenant=acme/shard=01"),
        (event("acme"), "tenant=acme/shard=01"),
        (event("globex").key("order-1"), "tenant=globex/shard=00"),
        // The check value of CRC-32: 0xCBF43926, and the last digit is the shard.
        (event("123456789"), "tenant=_shared/shard=06"),
        (nobody().header("tenant", "123456789"), "tenant=_shared/shard=06"),
        (event("initech").header("tenant", "initech"), "tenant=_shared/shard=00"),
        (nobody(), "tenant=_none/shard=00"),
        (ScriptedRecord::new(r#"{"meta":{"tenant":null}}"#), "tenant=_none/shard=00"),
    ];
    for (one, route) in golden {
        let described = format!("{:?}", record(one.clone()));
        assert_eq!(routed(&layout(), one).unwrap(), route, "{described}");
    }
    let parts = fingerprint_of(|parts| Partitioner::<JsonValue>::fingerprint(&layout(), parts));
    assert_eq!(format!("{parts:?}"), r#"{"partitioner": "a3f0cb3d"}"#);
}

#[test]
fn what_cannot_be_placed_is_poison_and_says_where_and_never_what() {
    let long = "x".repeat(ID_MAX + 1);
    let invalid = PoisonReason::InvalidField;
    let refused = [
        (event("Acme"), invalid, "field meta.tenant"),
        (event(""), invalid, "field meta.tenant"),
        (event("../acme"), invalid, "field meta.tenant"),
        (event("_shared"), invalid, "field meta.tenant"),
        (event(&long), invalid, "field meta.tenant"),
        (ScriptedRecord::new(r#"{"meta":{"tenant":7}}"#), invalid, "field meta.tenant"),
        (ScriptedRecord::new(r#"{"meta":{"tenant":{}}}"#), invalid, "field meta.tenant"),
        (nobody().header("tenant", "acme/x"), invalid, "header tenant"),
        (nobody().header("tenant", &b"\xc3\x28"[..]), invalid, "header tenant"),
        (nobody().header("tenant", "acme").header("tenant", "globex"), invalid, "two tenants"),
        (
            event("acme").header("tenant", "globex"),
            PoisonReason::Refused,
            "header tenant and field meta.tenant",
        ),
    ];
    for (one, reason, place) in refused {
        let poison = routed(&layout(), one).unwrap_err();
        assert_eq!(poison.reason(), reason);
        assert!(poison.detail().contains(place), "{}", poison.detail());
        assert!(
            !poison.detail().contains("cme") && !poison.detail().contains("globex"),
            "{}",
            poison.detail()
        );
    }
    assert!(routed(&layout(), nobody().header("tenant", "acme").header("tenant", "acme")).is_ok());
}

/// However many tenants there are, routes are as many as were asked for, and all are used.
#[test]
fn the_long_tail_shares_and_a_tenant_stays_in_one_shard() {
    let mut rows = BTreeMap::<_, u32>::new();
    for number in 0..4_000 {
        let tenant = format!("tenant-{number}");
        let route = routed(&layout(), event(&tenant).key(tenant.clone())).unwrap();
        assert_eq!(routed(&layout(), event(&tenant).key("another")).unwrap(), route);
        *rows.entry(route).or_default() += 1;
    }
    assert_eq!(rows.len(), 16);
    // 250 each on average.
    assert!(rows.values().all(|rows| (180..=320).contains(rows)), "{rows:?}");
}

#[test]
fn a_tenant_of_its_own_is_spread_by_key_or_by_offset() {
    let mut shards = BTreeSet::new();
    let mut one = record(event("acme"));
    for offset in 0..100 {
        one.offset = aqueduct::Offset::new(offset);
        shards.insert(routed_as(&layout(), &one).unwrap());
    }
    assert_eq!(shards.len(), 4, "without a key, by offset");
    one.key = Some("order-1".into());
    let first = routed_as(&layout(), &one).unwrap();
    one.offset = aqueduct::Offset::new(7);
    assert_eq!(routed_as(&layout(), &one).unwrap(), first, "with one, by key");
}

#[test]
fn every_setting_is_in_the_identity_and_the_order_of_tenants_is_not() {
    let of = |layout: ByTenant| -> Fingerprint {
        fingerprint_of(|parts| Partitioner::<JsonValue>::fingerprint(&layout, parts))
    };
    let plain = || ByTenant::named("tenant", "meta.tenant").unwrap();
    check_fingerprints_differ([
        ("plain", of(plain())),
        ("header", of(ByTenant::named("x-tenant", "meta.tenant").unwrap())),
        ("field", of(ByTenant::named("tenant", "tenant").unwrap())),
        ("shared", of(plain().shared(32).unwrap())),
        ("own", of(plain().own("acme", 1).unwrap())),
        ("other", of(plain().own("globex", 1).unwrap())),
        ("shards", of(plain().own("acme", 2).unwrap())),
        ("two", of(plain().own("acme", 1).unwrap().own("globex", 1).unwrap())),
    ]);
    let one = plain().own("acme", 1).unwrap().own("globex", 2).unwrap();
    let other = plain().own("globex", 2).unwrap().own("acme", 1).unwrap();
    assert_eq!(of(one), of(other));
}

#[test]
fn what_no_record_could_match_is_refused_before_the_first() {
    let plain = || ByTenant::named("tenant", "tenant").unwrap();
    assert!(matches!(ByTenant::named("tenant", "a..b").unwrap_err(), LayoutError::Path(_)));
    assert_eq!(plain().own("_none", 1).unwrap_err(), LayoutError::Id { id: "_none".to_owned() });
    let twice = plain().own("acme", 1).unwrap().own("acme", 2).unwrap_err();
    assert_eq!(twice, LayoutError::Twice { id: "acme".to_owned() });
    for shards in [0, SHARDS_MAX + 1] {
        assert!(plain().own("acme", shards).unwrap_err().to_string().contains("1 to 100"));
        assert!(plain().shared(shards).is_err());
    }
}
