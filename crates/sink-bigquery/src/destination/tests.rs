use super::*;

fn destinations() -> Destinations {
    Destinations { project: "p".into(), dataset: "d".into(), table: None, topics: Topics::default() }
}

fn of_topic(destinations: &Destinations, topic: &str) -> String {
    destinations.of_topic(topic).unwrap().to_string()
}

#[test]
fn topics_and_routes_are_tables() {
    let mut destinations = destinations();
    assert_eq!(of_topic(&destinations, "orders-v1"), "p.d.orders-v1");
    assert_eq!(of_topic(&destinations, "shop.orders"), "p.d.shop_orders_x7458f44cdbf1d509");
    let of_route = |route: &str| destinations.of_route(route).unwrap().to_string();
    assert_eq!(of_route("t"), "p.d.t");
    assert_eq!(of_route("e.t"), "p.e.t");
    assert_eq!(of_route("example.com:q.e.t"), "example.com:q.e.t");
    for bad in ["a/b", "country=FR", ".t", "e.", "%2e", "🦀"] {
        assert!(destinations.of_route(bad).is_err(), "{bad}");
    }
    destinations.table = Some("all".into());
    assert_eq!(of_topic(&destinations, "x"), "p.d.all");
    assert_eq!(destinations.single().unwrap().to_string(), "p.d.all");
    assert_eq!(destinations.problems(), []);
    destinations.dataset = "d-d".into();
    destinations.project = String::new();
    assert_eq!(destinations.problems().len(), 2);
}

#[test]
fn the_first_that_says_something_decides() {
    let mut destinations = destinations();
    destinations.table = Some("rest".into());
    destinations.topics.add("logs.shop", "sales.shop").unwrap();
    destinations.topics.add_pattern(r"logs\.(?<app>.+)", "logs.$app").unwrap();
    destinations.topics.add_pattern(r"(\w+)\.(\w+)", "q.${1}_raw.$2").unwrap();
    for (topic, table) in [
        ("logs.shop", "p.sales.shop"),
        ("logs.web", "p.logs.web"),
        ("eu.web", "q.eu_raw.web"),
        // Patterns match the whole topic.
        ("my.logs.web", "p.d.rest"),
        ("web", "p.d.rest"),
    ] {
        assert_eq!(of_topic(&destinations, topic), table, "{topic}");
    }
    let datasets: Vec<_> = destinations.datasets().into_iter().map(|(p, d)| format!("{p}.{d}")).collect();
    assert_eq!(datasets, ["p.d", "p.logs", "p.sales"]);
}

/// A dot in what a pattern took is no border between dataset and table.
#[test]
fn what_a_pattern_took_stays_in_its_place() {
    let mut destinations = destinations();
    destinations.topics.add_pattern("(?<a>.*)/(?<b>.*)", "${a}.$b").unwrap();
    let name = destinations.of_topic("x.y/z.w").unwrap();
    assert_eq!(name.project(), "p");
    assert!(name.dataset().starts_with("x_y_x") && name.table().starts_with("z_w_x"), "{name}");
    assert_ne!(of_topic(&destinations, "x.y/z_w"), of_topic(&destinations, "x.y/z.w"));
    // An empty one has a name as well, which nobody else has.
    assert!(destinations.of_topic("/").unwrap().table().starts_with("_x"));
}

#[test]
fn topics_that_meet_by_connects_rule_are_an_error() {
    let mut destinations = destinations();
    destinations.topics.names = TopicNames::Connect;
    assert_eq!(of_topic(&destinations, "a.b"), "p.d.a_b");
    assert_eq!(of_topic(&destinations, "a.b"), "p.d.a_b", "a topic does not meet itself");
    let error = destinations.clone().of_topic("a-b").unwrap_err();
    let told = error.to_string();
    assert!(told.contains("a.b") && told.contains("a-b") && told.contains("p.d.a_b"), "{told}");
    // Topics that are sent to one table on purpose do not meet.
    destinations.topics.add_pattern(r"(?<kind>\w+)\.v\d", "$kind").unwrap();
    assert_eq!([of_topic(&destinations, "c.v1"), of_topic(&destinations, "c.v2")], ["p.d.c", "p.d.c"]);
    destinations.topics.names = TopicNames::Exact;
    assert!(destinations.of_topic("a.b").unwrap_err().to_string().contains("topic_table()"));
}

#[test]
fn everything_that_is_wrong_with_a_pattern_is_named() {
    let mut topics = Topics::default();
    assert_eq!(topics.add_pattern("(", "$").unwrap_err().len(), 2);
    assert_eq!(topics.add_pattern("a)(b", "t").unwrap_err().len(), 1, "only closed by what is put around it");
    assert_eq!(topics.add_pattern("(?<a>x)", "$b.${2}_$a").unwrap_err().len(), 2);
    assert_eq!(topics.add_pattern(r"(\w{1000}){1000}", "t").unwrap_err().len(), 1, "too large");
    assert!(topics.add("", "t").is_err());
    topics.add("a", "t").unwrap();
    assert!(topics.add("a", "u").unwrap_err().contains("two tables"));
}
