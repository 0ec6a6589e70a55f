//! The judge, judged: what is right passes, and each thing that is wrong is found.

use super::super::layout::Layout;
use super::super::storage::Storage;
use super::super::{combinations, produce};
use std::path::PathBuf;

use super::*;

const TOPIC: &str = "matrix-json";

fn combination(layout: Layout) -> Combination {
    let wanted = |it: &Combination| {
        it.encoding.name == "json"
            && it.storage == Storage { format: Kind::JsonLines, codec: "gzip" }
            && it.layout == layout
    };
    combinations().into_iter().find(wanted).unwrap()
}

/// Everything as it is to be: an object for each partition and route.
fn stored(combination: &Combination, topic: &Topic) -> Vec<(Object, Contents)> {
    let mut routes: BTreeMap<(i32, String), Vec<(i64, Cell)>> = BTreeMap::new();
    for ((partition, offset), sent) in topic {
        if let Sent::Good { place, value } = sent {
            let stands = Stands { topic: TOPIC, offset: *offset, place: *place };
            let row = Kind::JsonLines.stores(combination.encoding, value, stands);
            routes
                .entry((*partition, combination.layout.route(*place, value)))
                .or_default()
                .push((*offset, row));
        }
    }
    let object = |((partition, route), rows): ((i32, String), Vec<(i64, Cell)>)| {
        let (start, end) = (rows.first().unwrap().0, rows.last().unwrap().0 + 1);
        let levels = if route.is_empty() { route } else { format!("{route}/") };
        let name = combination.name();
        let key = format!("{name}/{TOPIC}/{levels}{TOPIC}+{partition}+{start:010}.json.gz");
        let claims = [
            ("partition", i64::from(partition)),
            ("start", start),
            ("end", end),
            ("rows", i64::try_from(rows.len()).unwrap()),
        ];
        let claims = claims.map(|(name, value)| (name.to_owned(), value.to_string())).into();
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let contents = Contents { rows, codecs: vec!["gzip".to_owned()], schema: String::new() };
        (Object { key, claims, path: PathBuf::new() }, contents)
    };
    routes.into_iter().map(object).collect()
}

fn judge(layout: Layout, spoil: impl FnOnce(&mut Vec<(Object, Contents)>)) -> Result<Compared> {
    let combination = combination(layout);
    let topic = produce::plan(combination.encoding, 1, 60);
    let mut stored = stored(&combination, &topic);
    spoil(&mut stored);
    let (objects, contents): (Vec<Object>, Vec<Result<Contents, String>>) =
        stored.into_iter().map(|(object, contents)| (object, Ok(contents))).unzip();
    Check { combination: &combination, topic_name: TOPIC, topic: &topic }.objects(&objects, &contents)
}

#[test]
fn what_is_right_passes_under_every_layout() {
    for layout in Layout::ALL {
        let compared = judge(layout, |_| ()).unwrap();
        assert_eq!(compared.rows, 120, "{layout:?}");
        assert!(compared.values > compared.rows * 20);
    }
}

/// What is done to objects that were right, and a word of what is then said.
type Spoil = (fn(&mut Vec<(Object, Contents)>), &'static str);

#[test]
fn each_thing_that_is_wrong_is_found() {
    let spoils: &[Spoil] = &[
        (|stored| drop(stored.pop()), "in no object"),
        (|stored| drop(stored[0].1.rows.pop()), "rows"),
        (|stored| stored[0].1.rows.swap(0, 1), "expected"),
        (
            |stored| {
                let again = stored[0].1.clone();
                let Object { key, claims, path } = &stored[0].0;
                stored.push((Object { key: key.clone(), claims: claims.clone(), path: path.clone() }, again));
            },
            "too",
        ),
        (|stored| stored[0].1.codecs = vec!["none".to_owned()], "none"),
        (
            |stored| {
                let Cell::Record(members) = &mut stored[0].1.rows[0] else { panic!("no record") };
                members.retain(|(name, _)| name != "note");
            },
            "missing [\"note\"]",
        ),
        (
            |stored| {
                let Cell::Record(members) = &mut stored[0].1.rows[0] else { panic!("no record") };
                members
                    .iter_mut()
                    .filter(|(name, _)| name == "seq")
                    .for_each(|(_, seq)| *seq = Cell::Int(7_777));
            },
            ".seq: expected",
        ),
        (|stored| drop(stored[0].0.claims.insert("rows".to_owned(), "1".to_owned())), "claims other rows"),
        (|stored| drop(stored[0].0.claims.insert("end".to_owned(), "999".to_owned())), "claims"),
        (|stored| stored[0].0.key = stored[0].0.key.replace("city=", "town="), "claims"),
        (|stored| stored[0].0.key = stored[0].0.key.replace("+0000", "+0001"), "is not"),
        (|stored| stored[0].0.key = stored[0].0.key.replace(".json.gz", ".json"), "is not"),
    ];
    for (index, (spoil, said)) in spoils.iter().enumerate() {
        let error = format!("{:#}", judge(Layout::Field, spoil).unwrap_err());
        assert!(error.contains(said), "{index}: {error}");
    }
}

#[test]
fn letters_are_the_bad_ones_and_no_others() {
    let combination = combination(Layout::None);
    let topic = produce::plan(combination.encoding, 1, 60);
    let letters = letters(&topic, &combination);
    let bad = topic.values().filter(|sent| !matches!(sent, Sent::Good { .. })).count();
    let spoilt = topic.values().filter(|sent| matches!(sent, Sent::Spoilt(_))).count();
    assert!(spoilt > 0 && bad == 2 * spoilt);
    assert_eq!(letters.len(), if combination.skips_tombstones() { spoilt } else { bad });
}
