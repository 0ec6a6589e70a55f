//! The judge, judged: what is right passes, and each thing that is wrong is found.

use std::collections::HashMap;
use std::path::PathBuf;

use super::*;

const LANE: &str = "orders[0]";

/// Twenty-four orders of a partition in two segments, of which the second brings a third version.
fn orders() -> BTreeMap<Place, Order> {
    let version =
        |offset: u64| Version(u32::try_from(if offset < 12 { offset % 2 } else { offset % 3 }).unwrap() + 1);
    (0_u64..24)
        .map(|offset| ((0, offset.cast_signed()), Order { number: offset + 100, version: version(offset) }))
        .collect()
}

fn segments() -> Vec<Segment> {
    [(0, 12), (12, 24)].map(|(start, end)| Segment { lane: LANE.to_owned(), start, end }).into()
}

/// Segment, path and version.
type File = (i64, &'static str, Version);
/// Offsets and what stands there.
type Rows = Vec<(i64, Cell)>;

/// As a pipeline stores them: an object for each segment, path and version of file.
fn stored(sharing: Sharing) -> Vec<(Object, Contents)> {
    let orders = orders();
    let mut files: BTreeMap<File, Rows> = BTreeMap::new();
    for ((_, offset), order) in &orders {
        let newest = if *offset < 12 { Version(2) } else { Version(3) };
        let file = if sharing == Sharing::None { order.version } else { newest };
        files.entry((offset / 12, order.route(), file)).or_default().push((*offset, order.row(file)));
    }
    let object = |((_, route, _), rows): (File, Rows)| {
        let (start, end) = (rows[0].0, rows[rows.len() - 1].0 + 1);
        let claims =
            [("partition", 0), ("start", start), ("end", end), ("rows", i64::try_from(rows.len()).unwrap())];
        let claims: HashMap<_, _> = claims.map(|(name, value)| (name.to_owned(), value.to_string())).into();
        let key = format!("p/orders/{route}/orders+0+{start:010}.parquet");
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let object = Object { key, claims: claims.into_iter().collect(), path: PathBuf::new() };
        (object, Contents { rows, ..Contents::default() })
    };
    files.into_iter().map(object).collect()
}

fn judge(sharing: Sharing, segments: &[Segment], spoil: impl FnOnce(&mut Vec<(Object, Contents)>)) -> Found {
    let mut stored = stored(sharing);
    spoil(&mut stored);
    let objects: Vec<Object> = stored.iter().map(|(object, _)| object.clone()).collect();
    let duck = |contents: &Contents| Contents {
        rows: contents.rows.iter().map(|row| Reader::DuckDb.sees(row.clone())).collect(),
        ..contents.clone()
    };
    let contents: Vec<_> =
        stored.iter().flat_map(|(_, contents)| [Ok(contents.clone()), Ok(duck(contents))]).collect();
    let orders = orders();
    let judge = Judge { prefix: "p", topic: "orders", sharing, orders: &orders, segments };
    judge.judge(&objects, &contents).unwrap()
}

#[test]
fn what_is_right_passes_with_segments_told_or_not() {
    for sharing in [Sharing::None, Sharing::Backward] {
        for told in [segments(), Vec::new()] {
            let found = judge(sharing, &told, |_| ());
            assert!(found.audit.is_clean(), "{:?}", found.audit);
            assert_eq!((found.audit.records, found.audit.rows, found.most), (24, 24, 1));
        }
    }
}

/// What is done to objects that were right, and whether that is seen in the counts.
type Spoil = (fn(&mut Vec<(Object, Contents)>), fn(&Audit) -> bool);

#[test]
fn each_thing_that_is_wrong_is_found() {
    let spoils: &[Spoil] = &[
        (|stored| drop(stored.pop()), |audit| audit.lost > 0),
        (
            |stored| {
                let (object, contents) = stored[0].clone();
                stored.push((Object { key: object.key.replace("0000", "9000"), ..object }, contents));
            },
            |audit| audit.duplicated > 0 && audit.orphans > 0,
        ),
        (
            |stored| stored.iter_mut().for_each(|(_, contents)| contents.rows.reverse()),
            |audit| audit.reordered > 0,
        ),
        (
            |stored| {
                let Cell::Record(members) = &mut stored[0].1.rows[0] else { panic!("no record") };
                members
                    .iter_mut()
                    .filter(|(name, _)| name == "quantity")
                    .for_each(|(_, it)| *it = Cell::Int(1 << 20));
            },
            |audit| audit.corrupt > 0,
        ),
        (|stored| stored[0].0.key = stored[0].0.key.replace("city=", "town="), |audit| audit.corrupt > 0),
        (
            |stored| drop(stored[0].0.claims.insert("end".to_owned(), "1".to_owned())),
            |audit| audit.corrupt > 0,
        ),
        (|stored| drop(stored[0].1.rows.pop()), |audit| audit.corrupt > 0 && audit.lost > 0),
    ];
    for sharing in [Sharing::None, Sharing::Backward] {
        for (index, (spoil, is_seen)) in spoils.iter().enumerate() {
            let found = judge(sharing, &segments(), spoil);
            assert!(is_seen(&found.audit), "{index} under {sharing:?}: {:?}", found.audit);
        }
    }
}

/// What Connect does: another file whenever the schema changes.
#[test]
fn a_second_object_of_a_version_in_a_segment_is_found() {
    let halve = |stored: &mut Vec<(Object, Contents)>| {
        let at = stored.iter().position(|(_, contents)| contents.rows.len() > 1).unwrap();
        let (mut object, mut contents) = stored[at].clone();
        let rest = contents.rows.split_off(1);
        let starts: Vec<String> =
            rest.iter().chain(&contents.rows).map(|row| row.member("id").unwrap().to_string()).collect();
        let offset =
            |id: &str| id.trim_matches(|it: char| !it.is_ascii_digit()).parse::<i64>().unwrap() - 100;
        let claim = |object: &mut Object, name: &str, value: i64| {
            drop(object.claims.insert(name.to_owned(), value.to_string()));
        };
        let (second, first) = (offset(&starts[0]), offset(&starts[starts.len() - 1]));
        claim(&mut stored[at].0, "end", first + 1);
        claim(&mut stored[at].0, "rows", 1);
        stored[at].1 = contents.clone();
        claim(&mut object, "start", second);
        claim(&mut object, "rows", i64::try_from(rest.len()).unwrap());
        stored.push((object, Contents { rows: rest, ..contents }));
    };
    for sharing in [Sharing::None, Sharing::Backward] {
        let found = judge(sharing, &segments(), halve);
        assert_eq!((found.audit.orphans, found.most, found.audit.lost), (1, 2, 0), "{:?}", found.audit);
    }
}

#[test]
fn a_file_of_an_older_version_than_its_segment_has_met_is_found() {
    let older = |stored: &mut Vec<(Object, Contents)>| {
        let orders = orders();
        for row in stored.iter_mut().flat_map(|(_, contents)| &mut contents.rows) {
            let Some(Cell::Int(id)) = row.member("id") else { panic!("no id") };
            let order = orders.values().find(|order| i128::from(order.number) == *id).unwrap();
            *row = order.row(Version(1));
        }
    };
    assert!(judge(Sharing::Backward, &segments(), older).audit.corrupt > 0);
}
