//! Columns that a schema of values makes, beside those that a table has.

use crate::schema::{Field, FieldType, Mode, places};

/// Why columns do not go together, with the column's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) path: String,
    pub(super) problem: String,
}

/// Finds for each column that is wanted the one of `layout`, adding those that are missing behind the others: numbers of columns
/// never change. On an error `layout` may hold a part. Its first `ours` columns are no values'.
///
/// Answers the columns as rows use them: named and typed as in `layout`, with the names that values have.
pub(super) fn resolve(
    layout: &mut Vec<Field>,
    ours: usize,
    want: &[Field],
    evolves: bool,
    path: &str,
) -> Result<Vec<Field>, Misfit> {
    let (known, there, wanted) = (layout.len(), places(layout), places(want));
    let mut used = Vec::with_capacity(want.len());
    for field in want {
        if field.is_empty() {
            used.push(field.clone());
            continue;
        }
        let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        let place = there.get(&field.name.to_ascii_lowercase());
        used.push(match place.and_then(|place| layout.get_mut(*place)) {
            Some(old) => found(old, field, evolves, &path)?,
            None => added(layout, field, known > ours, evolves, &path)?,
        });
    }
    // Of the layout nothing is relaxed: that the table is not yet, all those have to know whose values never have the column.
    for old in layout.iter().take(known).skip(ours) {
        if old.mode == Mode::Required && !wanted.contains_key(&old.name.to_ascii_lowercase()) {
            // If it may not be relaxed, that is what is wrong with them.
            let mode = if evolves { Mode::Nullable } else { Mode::Required };
            used.push(Field { mode, ..old.clone() });
        }
    }
    Ok(used)
}

fn found(old: &mut Field, field: &Field, evolves: bool, path: &str) -> Result<Field, Misfit> {
    if !takes(old, field) {
        let shown = |field: &Field| {
            let repeated = if field.mode == Mode::Repeated { "REPEATED " } else { "" };
            format!("{repeated}{}", field.kind.name())
        };
        let problem = format!("is {}, and values make it {}", shown(old), shown(field));
        return Err(Misfit { path: path.to_owned(), problem });
    }
    let is_relaxed = old.mode == Mode::Required && field.mode != Mode::Required && evolves;
    let mode = if is_relaxed { Mode::Nullable } else { old.mode };
    let kind = match (&mut old.kind, &field.kind) {
        (FieldType::Record(have), FieldType::Record(want)) => {
            FieldType::Record(resolve(have, 0, want, evolves, path)?)
        }
        (kind, _) => kind.clone(),
    };
    let source = field.source.clone().unwrap_or_else(|| field.name.as_str().into());
    Ok(Field { kind, mode, source: (*source != *old.name).then_some(source), ..old.clone() })
}

fn added(
    layout: &mut Vec<Field>,
    field: &Field,
    beside_others: bool,
    evolves: bool,
    path: &str,
) -> Result<Field, Misfit> {
    let mut new = field.clone();
    new.number = u32::try_from(layout.len() + 1).unwrap_or(u32::MAX);
    if beside_others && new.mode == Mode::Required {
        // Rows that are there already lack it.
        new.mode = Mode::Nullable;
    }
    let mut used = new.clone();
    if let FieldType::Record(want) = &field.kind {
        let mut inner = Vec::new();
        used.kind = FieldType::Record(resolve(&mut inner, 0, want, evolves, path)?);
        new.kind = FieldType::Record(inner);
    }
    new.source = None;
    layout.push(new);
    Ok(used)
}

/// Whether the column takes values of what is wanted, none of which can lose anything; some may not fit, and are letters.
fn takes(have: &Field, want: &Field) -> bool {
    use FieldType as Type;
    let is_list = |field: &Field| field.mode == Mode::Repeated;
    if matches!(have.kind, Type::Json) && (!is_list(have) || is_list(want)) {
        return true;
    }
    if is_list(have) != is_list(want) {
        return false;
    }
    match (&have.kind, &want.kind) {
        (Type::Record(_), Type::Record(_)) => true,
        (have, want) if have == want => true,
        (Type::String, want) => !matches!(want, Type::Bytes | Type::Json | Type::Record(_) | Type::Range(_)),
        (Type::Numeric | Type::BigNumeric | Type::Timestamp | Type::Date, Type::Int64)
        | (Type::BigNumeric, Type::Numeric) => true,
        (Type::Float64 | Type::Json | Type::Record(_) | Type::Range(_), _) => false,
        (_, want) => matches!(want, Type::String),
    }
}

/// The columns without those of which nothing is stored.
pub(super) fn stored(fields: &[Field]) -> Vec<Field> {
    let strip = |field: &Field| match &field.kind {
        FieldType::Record(inner) => Field { kind: FieldType::Record(stored(inner)), ..field.clone() },
        _ => field.clone(),
    };
    fields.iter().filter(|field| !field.is_empty()).map(strip).collect()
}

/// Adds to the columns of rows those of others that go into the same stream; all of them [`stored`].
pub(super) fn unite(into: &mut Vec<Field>, others: &[Field]) {
    let (known, there, theirs) = (into.len(), places(into), places(others));
    let new = others.iter().filter(|other| !there.contains_key(&other.name.to_ascii_lowercase()));
    into.extend(new.cloned());
    for (place, field) in into.iter_mut().enumerate() {
        let other = theirs.get(&field.name.to_ascii_lowercase()).and_then(|place| others.get(*place));
        // What is on one side only, or null on one, is null in some rows.
        let always = place < known && other.is_some_and(|other| other.mode == Mode::Required);
        if field.mode == Mode::Required && !always {
            field.mode = Mode::Nullable;
        }
        if let (FieldType::Record(inner), Some(FieldType::Record(others))) =
            (&mut field.kind, other.map(|other| &other.kind))
        {
            unite(inner, others);
        }
    }
}
