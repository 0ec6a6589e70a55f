//! What is known of the columns of tables, for all lanes of a sink.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::{Poison, PoisonReason, Schema};

use super::DerivedColumns;
use super::derive::{derive, named};
use super::merge::{Misfit, resolve};
use crate::changes::{ChangePlan, Changes};
use crate::error::BigQueryError;
use crate::name::TableName;
use crate::row::{PlanOptions, RowPlan};
use crate::schema::{Field, FieldType, Mode, TableSchema, is_legal, places};
use crate::table::Tables;

/// Where the columns come from: for all tables, and for some.
#[derive(Debug)]
pub(crate) struct ColumnSources {
    pub(crate) general: Option<Source>,
    pub(crate) of: HashMap<TableName, Source>,
    pub(crate) options: PlanOptions,
    known: Mutex<HashMap<TableName, Known>>,
}

/// [`Columns`](super::Columns), with what is made of declared ones.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Declared(Declared),
    Existing,
    FromValues(DerivedColumns),
}

impl Source {
    /// What of it decides rows, as text.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Declared(declared) => declared.schema.identity(),
            Self::Existing => "existing".to_owned(),
            // The table's own columns decide as well, and change without notice: a replay that differs is noticed by its rows.
            Self::FromValues(DerivedColumns { required }) => format!("values/1 required={required}"),
        }
    }
}

/// Columns and what is made of them.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) schema: TableSchema,
    plan: Arc<RowPlan>,
    /// If records change rows.
    changes: Option<Arc<ChangePlan>>,
}

impl Declared {
    /// Every record adds a row.
    pub(crate) fn new(schema: &TableSchema, options: PlanOptions) -> Self {
        let plan = Arc::new(RowPlan::new(schema, options));
        Self { schema: schema.clone(), plan, changes: None }
    }

    /// Records change the rows with their key.
    pub(crate) fn changing(
        changes: &Changes,
        schema: &TableSchema,
        key: &[String],
        options: PlanOptions,
    ) -> Self {
        let deletes = RowPlan::new(&Changes::of_table(schema, key), options.clone());
        let plan = Arc::new(RowPlan::new(&Changes::of_values(schema, key), options));
        let changes = Some(Arc::new(ChangePlan::new(changes, deletes)));
        Self { schema: schema.clone(), plan, changes }
    }

    /// The columns the table needs, ours included.
    pub(crate) fn columns(&self) -> &[Field] {
        self.changes.as_ref().map_or_else(|| self.plan.columns(), |changes| changes.columns())
    }
}

/// How rows of one table are encoded.
#[derive(Clone, Debug)]
pub(crate) enum TableLayout {
    /// Whatever the values are.
    Fixed(Arc<RowPlan>),
    /// By their schemas.
    ByValues(Arc<TableColumns>),
}

/// What was made of the columns a table had.
#[derive(Debug)]
struct Known {
    seen: Option<Arc<Vec<Field>>>,
    layout: TableLayout,
}

impl ColumnSources {
    pub(crate) fn new(general: Option<Source>, of: HashMap<TableName, Source>, options: PlanOptions) -> Self {
        Self { general, of, options, known: Mutex::default() }
    }

    pub(crate) fn source(&self, table: &TableName) -> Option<&Source> {
        self.of.get(table).or(self.general.as_ref())
    }

    /// Whether some tables have to be asked before rows of them can be encoded.
    pub(crate) fn asks(&self) -> bool {
        let asks = |source: &Source| !matches!(source, Source::Declared(_));
        self.general.as_ref().is_some_and(asks) || self.of.values().any(asks)
    }

    /// How rows of the table are encoded, if nobody has to be asked for that.
    pub(crate) fn declared(&self, table: &TableName) -> Option<TableLayout> {
        match self.source(table)? {
            Source::Declared(declared) => Some(TableLayout::Fixed(Arc::clone(&declared.plan))),
            Source::Existing | Source::FromValues(_) => None,
        }
    }

    /// What rows of the table have beside their columns, if records change them.
    pub(crate) fn changes(&self, table: &TableName) -> Option<Arc<ChangePlan>> {
        match self.source(table)? {
            Source::Declared(declared) => declared.changes.clone(),
            Source::Existing | Source::FromValues(_) => None,
        }
    }

    /// How rows of the table are encoded, by the columns it has now, or had up to a minute ago. `None` if no columns are to be had.
    pub(crate) async fn ask(
        &self,
        tables: &Tables,
        table: &TableName,
    ) -> Result<Option<TableLayout>, BigQueryError> {
        let Some(source) = self.source(table) else { return Ok(None) };
        if let Source::Declared(declared) = source {
            return Ok(Some(TableLayout::Fixed(Arc::clone(&declared.plan))));
        }
        let seen = tables.look(table).await?;
        if matches!(source, Source::Existing) && seen.is_none() {
            let problem =
                "it does not exist, and its columns are to be taken from it: create it, or declare columns"
                    .to_owned();
            return Err(BigQueryError::Schema { table: table.to_string(), problem });
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(table)
            && known.seen == seen
        {
            return Ok(Some(known.layout.clone()));
        }
        let before = known.get(table).map(|known| known.layout.clone());
        let columns = seen.as_deref().map(Vec::as_slice).unwrap_or_default();
        let layout = match (source, before) {
            (Source::FromValues(_), Some(TableLayout::ByValues(before))) if before.adopt(columns) => {
                TableLayout::ByValues(before)
            }
            (Source::FromValues(derived), _) => {
                let (derived, options) = (derived.clone(), self.options.clone());
                let evolves = tables.evolves(table);
                TableLayout::ByValues(Arc::new(TableColumns::new(columns, evolves, derived, options)))
            }
            _ => {
                let ours = self.options.metadata.fields();
                let theirs = writable(columns).into_iter().filter(|field| !is_among(&ours, field));
                TableLayout::Fixed(Arc::new(RowPlan::new(&TableSchema::new(theirs), self.options.clone())))
            }
        };
        known.insert(table.clone(), Known { seen, layout: layout.clone() });
        Ok(Some(layout))
    }
}

/// Without columns of flexible names, which the protobuf type of rows cannot spell.
fn writable(fields: &[Field]) -> Vec<Field> {
    let inside = |field: &Field| match &field.kind {
        FieldType::Record(inner) => Field { kind: FieldType::Record(writable(inner)), ..field.clone() },
        _ => field.clone(),
    };
    fields
        .iter()
        .filter(|field| is_legal(&field.name))
        .map(inside)
        .filter(|field| !field.is_empty())
        .collect()
}

fn is_among(fields: &[Field], field: &Field) -> bool {
    fields.iter().any(|other| other.name.eq_ignore_ascii_case(&field.name))
}

/// The columns of one table whose values bring theirs: those it has, and those that schemas have added since.
///
/// A column has its number for good, so that rows of several schemas can go into one stream, under one protobuf type.
#[derive(Debug)]
pub(crate) struct TableColumns {
    evolves: bool,
    derived: DerivedColumns,
    options: PlanOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Ours first.
    layout: Vec<Field>,
    /// By the digests of schemas.
    plans: HashMap<u64, Arc<RowPlan>>,
}

/// Plans that are kept for a table; they are compiled anew where that is too few.
const PLANS_MAX: usize = 1_000;

impl TableColumns {
    pub(super) fn new(
        columns: &[Field],
        evolves: bool,
        derived: DerivedColumns,
        options: PlanOptions,
    ) -> Self {
        let mut layout = options.metadata.fields();
        let theirs: Vec<_> = columns.iter().filter(|field| !is_among(&layout, field)).cloned().collect();
        layout.extend(theirs);
        number(&mut layout);
        let state = Mutex::new(State { layout, plans: HashMap::new() });
        Self { evolves, derived, options, state }
    }

    /// Whether it says which record a row is of.
    pub(super) fn is_ours(&self, field: &Field) -> bool {
        is_among(&self.options.metadata.fields(), field)
    }

    /// Takes in what the table has by now; answers whether that goes together with what is known, so that numbers stay.
    fn adopt(&self, columns: &[Field]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut layout = state.layout.clone();
        if !adopt(&mut layout, columns) {
            return false;
        }
        *state = State { layout, plans: HashMap::new() };
        true
    }

    /// How values of this schema are encoded. Not per record.
    ///
    /// # Errors
    /// Why no value of it can be a row of this table.
    pub(super) fn plan(&self, schema: &Schema) -> Result<Arc<RowPlan>, Poison> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = state.plans.get(&schema.digest()) {
            return Ok(Arc::clone(plan));
        }
        let refuse = |Misfit { path, problem }| {
            let detail = format!(
                "{}: column {path} {problem}; change the column, or give the table columns of its own with columns_of()",
                named(schema)
            );
            Poison::new(PoisonReason::InvalidField, detail)
        };
        let want = derive(schema, &self.derived)?;
        let ours = self.options.metadata.fields();
        if let Some(field) = want.iter().find(|field| is_among(&ours, field)) {
            let problem = "says which record a row is of, and values have a field of its name: name it otherwise with \
                           metadata_columns()";
            return Err(refuse(Misfit { path: field.name.clone(), problem: problem.to_owned() }));
        }
        let mut layout = state.layout.clone();
        let used = resolve(&mut layout, ours.len(), &want, self.evolves, "").map_err(refuse)?;
        if count(&layout) > TableSchema::FIELDS_MAX {
            let detail = format!(
                "{} would give the table more than the {} columns that BigQuery allows",
                named(schema),
                TableSchema::FIELDS_MAX
            );
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        let plan = Arc::new(RowPlan::of(used, 0, self.options.clone()));
        state.layout = layout;
        if state.plans.len() >= PLANS_MAX {
            state.plans.clear();
        }
        state.plans.insert(schema.digest(), Arc::clone(&plan));
        Ok(plan)
    }
}

/// Those in records included.
fn count(fields: &[Field]) -> usize {
    let inside = |field: &Field| match &field.kind {
        FieldType::Record(inner) => count(inner),
        _ => 0,
    };
    fields.iter().map(|field| 1 + inside(field)).sum()
}

/// Numbers by places.
fn number(fields: &mut [Field]) {
    for (place, field) in (1..).zip(fields) {
        field.number = place;
        if let FieldType::Record(inner) = &mut field.kind {
            number(inner);
        }
    }
}

/// Adds to `layout` what the table has beyond it; `false` if a column turned out to be another.
fn adopt(layout: &mut Vec<Field>, columns: &[Field]) -> bool {
    let there = places(layout);
    for column in columns {
        let place = there.get(&column.name.to_ascii_lowercase());
        let Some(field) = place.and_then(|place| layout.get_mut(*place)) else {
            let mut new = [Field { number: 0, ..column.clone() }];
            number(&mut new);
            let next = u32::try_from(layout.len() + 1).unwrap_or(u32::MAX);
            layout.extend(new.into_iter().map(|field| Field { number: next, ..field }));
            continue;
        };
        if (field.mode == Mode::Repeated) != (column.mode == Mode::Repeated) {
            return false;
        }
        let same = match (&mut field.kind, &column.kind) {
            (FieldType::Record(layout), FieldType::Record(columns)) => adopt(layout, columns),
            (ours, theirs) => ours == theirs,
        };
        if !same {
            return false;
        }
        field.mode = column.mode;
        (field.max_length, field.precision) = (column.max_length, column.precision);
    }
    true
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{DataType, Field as Member, TimeUnit};

    use super::*;
    use crate::row::{MetadataColumns, UnknownFields};

    /// Whoever has made the table may have made our own columns REQUIRED, which every row fills: they are no values'.
    #[test]
    fn our_own_columns_are_never_values_whatever_the_table_says_of_them() {
        let options = PlanOptions {
            unknown: UnknownFields::Ignore,
            timestamps: TimeUnit::Micros,
            metadata: MetadataColumns::default(),
        };
        let ours = options.metadata.fields();
        let mut table: Vec<_> =
            ours.iter().map(|field| Field { mode: Mode::Required, ..field.clone() }).collect();
        table.push(Field::nullable("n", FieldType::Int64));
        let schema = Schema::new(DataType::Struct(vec![Member::new("n", DataType::Int64)]));
        for evolves in [false, true] {
            let columns = TableColumns::new(&table, evolves, DerivedColumns::new(), options.clone());
            let more = [table.clone(), vec![Field::nullable("more", FieldType::Bool)]].concat();
            for table in [&table, &more] {
                assert!(columns.adopt(table));
                let plan = columns.plan(&schema).unwrap();
                let names: Vec<_> = plan.columns().iter().map(Field::name).collect();
                assert_eq!(names, ["n", "_kafka_topic", "_kafka_partition", "_kafka_offset"], "{evolves}");
            }
        }
    }

    /// Until the table is relaxed, every version has to ask for that: one may be staged long before the one that was first.
    #[test]
    fn every_version_relaxes_what_it_lacks_whichever_was_first() {
        let options = PlanOptions {
            unknown: UnknownFields::Ignore,
            timestamps: TimeUnit::Micros,
            metadata: MetadataColumns::default(),
        };
        let table = [Field::required("gone", FieldType::Int64), Field::required("n", FieldType::Int64)];
        let columns = TableColumns::new(&table, true, DerivedColumns::new(), options);
        for fields in [&["n"][..], &["n", "more"], &["more"]] {
            let members = fields.iter().map(|name| Member::new(*name, DataType::Int64)).collect();
            let plan = columns.plan(&Schema::new(DataType::Struct(members))).unwrap();
            for name in ["gone", "n"] {
                let field = plan.columns().iter().find(|field| field.name == name);
                let mode = field.map(|field| field.mode);
                let is_nullable = mode == Some(Mode::Nullable);
                let is_there = fields.contains(&name) && mode == Some(Mode::Required);
                assert!(is_nullable || is_there, "{fields:?} {name}: {mode:?}");
            }
        }
    }
}
