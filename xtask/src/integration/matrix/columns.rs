//! Formats with columns: whether what a reader finds is the value that a record carries.
//!
//! Where values come with a schema the two are compared strictly. Where a segment's values have shown its schema, a member that is
//! absent is a column that is null. In both, what has no single kind is JSON text, and a union in Parquet a group of which one
//! member is set.

use serde_json::Value;
use xtask::readers::Cell;

use super::encode::json;
use super::storage::as_json;

/// How a format with columns shows values.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The schema is what the values have shown.
    pub(super) inferred: bool,
    /// The name of a member there.
    pub(super) name: fn(&str) -> String,
}

impl Columns {
    /// Where `found` is not `expected`; none if it is.
    pub(super) fn difference(self, expected: &Cell, found: &Cell) -> Option<String> {
        match (expected, found) {
            (Cell::Record(ours), Cell::Record(theirs)) => self.members(ours, theirs),
            (Cell::Map(ours), Cell::Record(theirs)) if self.inferred => self.members(ours, theirs),
            (Cell::List(ours), Cell::List(theirs)) if ours.len() == theirs.len() => {
                let mut pairs = ours.iter().zip(theirs).enumerate();
                pairs.find_map(|(at, (ours, theirs))| {
                    Some(format!("[{at}]{}", self.difference(ours, theirs)?))
                })
            }
            (Cell::Map(ours), Cell::Map(theirs)) if same_names(ours, theirs) => {
                let mut pairs = ours.iter().zip(theirs);
                pairs.find_map(|((key, ours), (_, theirs))| {
                    Some(format!("[{key:?}]{}", self.difference(ours, theirs)?))
                })
            }
            (Cell::Decimal(text), Cell::F64(bits)) if self.inferred => {
                let same = text.parse().is_ok_and(|it: f64| it.to_bits() == *bits);
                (!same).then(|| format!(": expected {expected}, found {found}"))
            }
            (Cell::F32(ours), Cell::F64(bits)) if self.inferred => {
                let ours = f32::from_bits(*ours);
                let spelled = format!("{ours:?}").parse().is_ok_and(|it: f64| it.to_bits() == *bits);
                let same = spelled || f64::from(ours).to_bits() == *bits;
                (!same).then(|| format!(": expected {expected}, found {found}"))
            }
            _ => expected.difference(found),
        }
    }

    /// The same for the member of several kinds: itself, its JSON text, or the one member of a group that is set.
    fn mixed(self, expected: &Cell, found: &Cell) -> Option<String> {
        let difference = self.difference(expected, found)?;
        match found {
            Cell::Text(text) => is_json(expected, text),
            Cell::Record(members) => {
                let mut set = members.iter().filter(|(_, value)| *value != Cell::Null);
                match (set.next(), set.next()) {
                    (Some((_, value)), None) => self.difference(expected, value),
                    _ => Some(difference),
                }
            }
            _ => Some(difference),
        }
    }

    fn members(self, ours: &[(String, Cell)], theirs: &[(String, Cell)]) -> Option<String> {
        let named: Vec<(String, &Cell)> = ours.iter().map(|(name, cell)| ((self.name)(name), cell)).collect();
        for (name, cell) in &named {
            let found = theirs.iter().find(|(it, _)| it == name).map(|(_, value)| value);
            let difference = match found {
                Some(found) if name == MIXED => self.mixed(cell, found),
                Some(found) => self.difference(cell, found),
                None if self.inferred && **cell == Cell::Null => None,
                None => Some(format!(": expected {cell}, found no such member")),
            };
            if let Some(difference) = difference {
                return Some(format!(".{name}{difference}"));
            }
        }
        let added = theirs.iter().find(|(name, value)| {
            let known = named.iter().any(|(it, _)| it == name);
            !(known || self.inferred && is_empty(value))
        });
        added.map(|(name, value)| format!(".{name}: not expected, found {value}"))
    }

    /// The same for a row of text cells, one for each scalar and each value that is JSON text.
    pub(super) fn csv_difference(self, expected: &Cell, found: &Cell) -> Option<String> {
        let mut cells = Vec::new();
        self.flatten(expected, String::new(), found, &mut cells);
        let Cell::Record(columns) = found else { return Some(format!(": {found} is no row")) };
        // A struct that is null is a column of nothing for each of its members.
        let is_struct =
            |column: &str| columns.iter().any(|(name, _)| name.starts_with(&format!("{column}.")));
        for (column, cell) in &cells {
            let found = match found.member(column) {
                Some(Cell::Text(text)) => text.as_str(),
                None if *cell == Cell::Null && (self.inferred || is_struct(column)) => "",
                None => return Some(format!(".{column}: expected {cell}, found no such column in {found}")),
                Some(other) => return Some(format!(".{column}: {other} is no text")),
            };
            let same = match as_json(cell) {
                Cell::Null => found.is_empty(),
                Cell::Text(text) => text == found || (column == MIXED && is_json(cell, found).is_none()),
                Cell::Bool(value) => found == value.to_string(),
                Cell::Int(value) => found == value.to_string(),
                number @ (Cell::F64(_) | Cell::F32(_) | Cell::Decimal(_)) => {
                    let digits = Cell::Number(found.to_owned());
                    let as_float = || match &number {
                        Cell::Decimal(text) if self.inferred => text.parse::<f64>().ok().map(Cell::f64),
                        Cell::F32(bits) if self.inferred => Some(Cell::f64(f64::from(f32::from_bits(*bits)))),
                        _ => None,
                    };
                    number.difference(&digits).is_none()
                        || as_float().is_some_and(|number| number.difference(&digits).is_none())
                }
                _ => is_json(cell, found).is_none(),
            };
            if !same {
                return Some(format!(".{column}: expected {cell}, found {found:?}"));
            }
        }
        let added = columns.iter().find(|(name, value)| {
            let known = cells.iter().any(|(column, _)| column == name);
            let null = cells
                .iter()
                .any(|(column, cell)| *cell == Cell::Null && name.starts_with(&format!("{column}.")));
            !known && !((self.inferred || null) && *value == Cell::text(""))
        });
        added.map(|(name, value)| format!(".{name}: not expected, found {value}"))
    }

    /// Structs are columns of their members.
    fn flatten(self, cell: &Cell, path: String, found: &Cell, cells: &mut Vec<(String, Cell)>) {
        let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match cell {
            _ if path == MIXED && found.member(MIXED).is_some() => cells.push((path, cell.clone())),
            Cell::Map(_) if !self.inferred || found.member(&path).is_some() => {
                cells.push((path, cell.clone()));
            }
            Cell::Record(members) | Cell::Map(members) => {
                for (name, cell) in members {
                    self.flatten(cell, inside(name), found, cells);
                }
            }
            other => cells.push((path, other.clone())),
        }
    }
}

/// The one member that is of several kinds: without a type of its own for that, JSON text whatever it holds.
const MIXED: &str = "choice";

fn same_names(ours: &[(String, Cell)], theirs: &[(String, Cell)]) -> bool {
    ours.iter().map(|(name, _)| name).eq(theirs.iter().map(|(name, _)| name))
}

/// Null, or a struct of nulls.
fn is_empty(cell: &Cell) -> bool {
    match cell {
        Cell::Null => true,
        Cell::Record(members) => members.iter().all(|(_, value)| is_empty(value)),
        _ => false,
    }
}

/// Whether `text` is the JSON of `expected`: compared as values, since members come in any order.
fn is_json(expected: &Cell, text: &str) -> Option<String> {
    let mut wanted = String::new();
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    let same = json::write(&as_json(expected), &mut wanted).is_ok()
        && parsed(&wanted).is_some_and(|wanted| parsed(text).is_some_and(|found| found == wanted));
    (!same).then(|| format!(": expected the JSON of {expected}, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Columns = Columns { inferred: false, name: str::to_owned };
    const INFERRED: Columns = Columns { inferred: true, name: str::to_owned };

    fn text(text: &str) -> Cell {
        Cell::text(text)
    }

    #[test]
    fn only_what_was_inferred_may_lack_a_null() {
        let ours = Cell::record([("a", Cell::Int(1)), ("b", Cell::Null)]);
        let lacks = Cell::record([("a", Cell::Int(1))]);
        assert!(INFERRED.difference(&ours, &lacks).is_none() && INFERRED.difference(&lacks, &ours).is_none());
        assert!(STRICT.difference(&ours, &lacks).is_some() && STRICT.difference(&lacks, &ours).is_some());
        assert!(INFERRED.difference(&ours, &Cell::record([("b", Cell::Null)])).is_some());
        let added = Cell::record([("a", Cell::Int(1)), ("b", Cell::Null), ("c", Cell::Int(0))]);
        assert!(INFERRED.difference(&ours, &added).is_some());
    }

    #[test]
    fn a_union_is_the_member_that_is_set() {
        let choice = |cell| Cell::record([(MIXED, cell)]);
        let group = |number, name| choice(Cell::record([("int64", number), ("string", name)]));
        let seven = choice(Cell::Int(7));
        assert!(STRICT.difference(&seven, &group(Cell::Int(7), Cell::Null)).is_none());
        for wrong in
            [group(Cell::Null, text("7")), group(Cell::Int(7), text("7")), group(Cell::Null, Cell::Null)]
        {
            assert!(STRICT.difference(&seven, &wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn json_text_is_compared_by_value_and_only_where_it_may_be() {
        let choice = |cell| Cell::record([(MIXED, cell)]);
        assert!(STRICT.difference(&choice(text("7")), &choice(text("\"7\""))).is_none());
        assert!(STRICT.difference(&choice(Cell::Int(7)), &choice(text("8"))).is_some());
        let note = |cell| Cell::record([("note", cell)]);
        assert!(STRICT.difference(&note(text("7")), &note(text("\"7\""))).is_some());
    }

    #[test]
    fn cells_of_text_say_the_value() {
        let ours = Cell::record([
            ("at", Cell::record([("x", Cell::f64(1e-300))])),
            ("none", Cell::Null),
            ("tags", Cell::List(vec![text("a")])),
        ]);
        let row =
            |x: &str, tags: &str| Cell::record([("at.x", text(x)), ("none", text("")), ("tags", text(tags))]);
        assert_eq!(STRICT.csv_difference(&ours, &row("1e-300", r#"[ "a" ]"#)), None);
        assert!(STRICT.csv_difference(&ours, &row("1e-299", r#"["a"]"#)).is_some());
        assert!(STRICT.csv_difference(&ours, &row("1e-300", r#"["b"]"#)).is_some());
        let added = Cell::record([
            ("at.x", text("1e-300")),
            ("more", text("1")),
            ("none", text("")),
            ("tags", text(r#"["a"]"#)),
        ]);
        assert!(STRICT.csv_difference(&ours, &added).is_some());
    }
}
