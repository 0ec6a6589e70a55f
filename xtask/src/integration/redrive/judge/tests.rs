//! The judge, judged: what is right passes, and each thing that is wrong is found.

use std::path::PathBuf;

use super::*;

fn tickets() -> BTreeMap<Place, Ticket> {
    (0..100).map(|number| ((0, i64::try_from(number).unwrap()), Ticket(number))).collect()
}

/// Everything as it is to be: an object for each path, live or repaired.
fn stored() -> Vec<(Object, Contents)> {
    let mut files: BTreeMap<(bool, String), Vec<(i64, Cell)>> = BTreeMap::new();
    for (place, ticket) in tickets() {
        let repaired = ticket.fault().is_some();
        if ticket.fault() != Some(Fault::Torn) {
            let (route, row) = ticket.stored(place, repaired);
            files.entry((repaired, route)).or_default().push((place.1, row));
        }
    }
    let object = |((repaired, route), rows): ((bool, String), Vec<(i64, Cell)>)| {
        let (start, end) = (rows[0].0, rows[rows.len() - 1].0 + 1);
        let claims =
            [("partition", 0), ("start", start), ("end", end), ("rows", i64::try_from(rows.len()).unwrap())];
        let claims = claims.map(|(name, value)| (name.to_owned(), value.to_string())).into_iter().collect();
        let ending = if repaired { ".repair-0" } else { "" };
        let key = format!("p/t/{route}/t+0+{start:010}{ending}.parquet");
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        (Object { key, claims, path: PathBuf::new() }, Contents { rows, ..Contents::default() })
    };
    files.into_iter().map(object).collect()
}

fn judge(spoil: impl FnOnce(&mut Vec<(Object, Contents)>)) -> Found {
    let mut stored = stored();
    spoil(&mut stored);
    let duck = |contents: &Contents| Contents {
        rows: contents.rows.iter().map(|row| Reader::DuckDb.sees(row.clone())).collect(),
        ..contents.clone()
    };
    let objects: Vec<Object> = stored.iter().map(|(object, _)| object.clone()).collect();
    let contents: Vec<_> =
        stored.iter().flat_map(|(_, contents)| [Ok(contents.clone()), Ok(duck(contents))]).collect();
    Judge { prefix: "p", topic: "t", tickets: &tickets() }.objects(&objects, &contents).unwrap()
}

#[test]
fn what_is_right_passes() {
    let found = judge(|_| ());
    assert!(found.audit.is_clean(), "{:?}", found.audit);
    assert_eq!((found.live, found.repaired, found.audit.records), (86, 12, 98));
}

#[test]
fn keys_say_which_ticket_it_is() {
    for ticket in [Ticket(0), Ticket(17), Ticket(99_999), Ticket(60_000_067)] {
        let (_, row) = ticket.stored((0, 0), true);
        let Some(Cell::Bytes(key)) = row.member("_key") else { panic!("{row}") };
        assert_eq!(Ticket::of_key(key), Some(ticket));
    }
}

/// What is done to objects that were right, and whether that is seen in the counts.
type Spoil = (fn(&mut Vec<(Object, Contents)>), fn(&Audit) -> bool);

#[test]
fn each_thing_that_is_wrong_is_found() {
    let is_live = |it: &(Object, Contents)| !is_repair(&it.0.key);
    assert!(stored().iter().any(is_live));
    let spoils: &[Spoil] = &[
        (|stored| drop(stored.pop()), |audit| audit.lost > 0),
        (
            |stored| {
                let last = stored.last().unwrap().clone();
                stored.push(last);
            },
            |audit| audit.duplicated > 0,
        ),
        // A record that became a letter, stored by the pipeline as well.
        (
            |stored| {
                let at = stored.iter().position(|(object, _)| is_repair(&object.key)).unwrap();
                stored[at].0.key = stored[at].0.key.replace(".repair-0", "");
            },
            |audit| audit.corrupt > 0,
        ),
        (|stored| stored[0].0.key = stored[0].0.key.replace("service=", "who="), |audit| audit.corrupt > 0),
        (|stored| stored[0].1.rows.reverse(), |audit| audit.reordered > 0),
        (
            |stored| {
                let Cell::Record(members) = &mut stored[0].1.rows[0] else { panic!("no record") };
                members
                    .iter_mut()
                    .filter(|(name, _)| name == "total")
                    .for_each(|(_, it)| *it = Cell::Int(-1));
            },
            |audit| audit.corrupt > 0,
        ),
    ];
    for (index, (spoil, is_seen)) in spoils.iter().enumerate() {
        assert!(is_seen(&judge(spoil).audit), "{index}");
    }
}

#[test]
fn letters_are_those_of_the_bad_ones_and_say_what_is_wrong() {
    let tickets = tickets();
    let judge = Judge { prefix: "p", topic: "t", tickets: &tickets };
    let told = |(place, ticket): (&Place, &Ticket)| {
        let (stage, reason) = ticket.fault()?.letter();
        Some((*place, stage.to_owned(), reason.to_owned()))
    };
    let letters: Vec<Told> = tickets.iter().filter_map(told).collect();
    assert_eq!(judge.letters(&letters).unwrap(), 0);
    assert_eq!(judge.letters(&[letters.clone(), vec![letters[0].clone()]].concat()).unwrap(), 1);
    assert!(judge.letters(&letters[1..]).unwrap_err().to_string().contains("no letter"));
    let wrong = [letters.clone(), vec![((0, 0), "convert".to_owned(), "malformed".to_owned())]].concat();
    assert!(judge.letters(&wrong).is_err(), "a letter of a good record");
    let mut other = letters;
    other[0].1 = "encode".to_owned();
    assert!(judge.letters(&other).is_err(), "another stage");
}
