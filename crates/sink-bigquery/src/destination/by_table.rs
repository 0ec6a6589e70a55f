//! Routes that are tables, by fields of the value or by a closure.

use std::fmt;

use aqueduct_core::{
    FieldPath, FieldValue, Fields, Fingerprint, Partitioner, Poison, PoisonReason, Record, RoutePath,
};

use super::legal::{Part, put_distinct};
use super::template::{Piece, Template};
use super::text::Text;
use crate::name::{TableName, check_project};

/// Sends records to tables by fields of their values, over datasets too.
///
/// The template is `table`, `dataset.table` or `project.dataset.table`; `$name` and `${path.of.a.field}` stand for fields, `$$` for a
/// `$`. Texts, truth values, whole numbers, UUIDs and dates can be part of a name. What a field holds never leaves its place: it adds
/// no dataset, and a name that BigQuery does not take is changed so that two different names never meet, as for
/// [topics](crate::TopicNames::Distinct).
///
/// These are poisons: a field that is absent or null ([`MissingField`](PoisonReason::MissingField)), unless
/// [`or_default`](Self::or_default) says otherwise; one of another kind ([`InvalidField`](PoisonReason::InvalidField)); a name that is
/// longer than a route may be ([`InvalidRoute`](PoisonReason::InvalidRoute)).
///
/// A segment may have as many tables as [`routes_max`](crate::BigQuerySinkBuilder::routes_max) says: a field with many values cuts
/// many small segments.
///
/// ```
/// use aqueduct_sink_bigquery::ByTable;
///
/// let by_tenant = ByTable::field("tenant")?;
/// let by_region = ByTable::template("${shop.region}.orders_$tenant")?.or_default();
/// assert!(ByTable::template("$project.d.t").is_err(), "a project is spelled out");
/// # Ok::<(), aqueduct_sink_bigquery::ByTableError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByTable {
    text: String,
    template: Template,
    /// By the names of places, in order.
    paths: Vec<FieldPath>,
    or_default: bool,
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template {template:?} {problem}")]
pub struct ByTableError {
    template: String,
    problem: String,
}

impl ByTable {
    /// The table that is called like the field at `path`, in the sink's own dataset.
    ///
    /// # Errors
    /// The path has an empty part.
    pub fn field(path: &str) -> Result<Self, ByTableError> {
        Self::template(&format!("${{{path}}}"))
    }

    /// A table with fields in its name; see the type.
    ///
    /// # Errors
    /// [`ByTableError`] says what is wrong with the template.
    pub fn template(text: &str) -> Result<Self, ByTableError> {
        let failed = |problem: String| ByTableError { template: text.to_owned(), problem };
        let template = Template::parse(text).map_err(failed)?;
        let path = |place: &str| {
            FieldPath::parse(place).map_err(|_| failed(format!("has {place:?}, which is no path of a field")))
        };
        let paths = template.places().map(path).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), template, paths, or_default: false })
    }

    /// Records without one of the fields have no route: they go where the sink sends their topic. Without this they are poison.
    #[must_use]
    pub fn or_default(mut self) -> Self {
        self.or_default = true;
        self
    }

    /// Fills a part of the name; `false` if a field is missing.
    fn fill<T: Fields + ?Sized>(
        &self,
        pieces: &[Piece],
        paths: &mut std::slice::Iter<'_, FieldPath>,
        value: &T,
        raw: &mut Text<RAW_MAX>,
    ) -> Result<bool, Poison> {
        for piece in pieces {
            match piece {
                Piece::Text(text) => raw.push(text),
                Piece::Place(_) => {
                    let Some(path) = paths.next() else { return Ok(false) };
                    match value.field(path) {
                        Some(found) if found != FieldValue::Null => spell(path, &found, raw)?,
                        _ if self.or_default => return Ok(false),
                        _ => {
                            let detail =
                                format!("field {path} is absent or null, and the table's name needs it");
                            return Err(Poison::new(PoisonReason::MissingField, detail));
                        }
                    }
                }
            }
        }
        Ok(true)
    }
}

impl<T: Fields + ?Sized> Partitioner<T> for ByTable {
    fn route(&self, _: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        let mut to = TableRoute::default();
        let mut paths = self.paths.iter();
        if let Some(project) = &self.template.project {
            to.project(project)?;
        }
        let parts =
            [(Part::Dataset, self.template.dataset.as_deref()), (Part::Table, Some(&*self.template.table))];
        for (part, pieces) in parts {
            let Some(pieces) = pieces else { continue };
            let mut raw = Text::default();
            if !self.fill(pieces, &mut paths, value, &mut raw)? {
                return Ok(());
            }
            to.set(part, raw.get().ok_or_else(too_long)?)?;
        }
        to.put(path)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", format_args!("table/1 {:?} or_default={}", self.text, self.or_default));
    }
}

/// Where a closure sends a record; see [`by_table_fn`].
#[derive(Default)]
pub struct TableRoute {
    project: Text<{ TableName::PROJECT_MAX }>,
    dataset: Text<{ RoutePath::LEVEL_MAX }>,
    table: Text<{ RoutePath::LEVEL_MAX }>,
}

impl fmt::Debug for TableRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = (self.project.get(), self.dataset.get(), self.table.get());
        f.debug_tuple("TableRoute").field(&parts).finish()
    }
}

impl TableRoute {
    /// The project; the sink's own without it. It needs a dataset.
    ///
    /// # Errors
    /// It is no project's id.
    pub fn project(&mut self, name: &str) -> Result<(), Poison> {
        check_project(name).map_err(|_| invalid("the name of a project is none"))?;
        self.project = Text::default();
        self.project.push(name);
        Ok(())
    }

    /// The dataset; the sink's own without it. A name that BigQuery does not take is changed, so that two never meet.
    ///
    /// # Errors
    /// It is longer than a route may be.
    pub fn dataset(&mut self, name: &str) -> Result<(), Poison> {
        self.set(Part::Dataset, name)
    }

    /// The table. A name that BigQuery does not take is changed, so that two never meet.
    ///
    /// # Errors
    /// It is longer than a route may be.
    pub fn table(&mut self, name: &str) -> Result<(), Poison> {
        self.set(Part::Table, name)
    }

    fn set(&mut self, part: Part, name: &str) -> Result<(), Poison> {
        let place = if part == Part::Dataset { &mut self.dataset } else { &mut self.table };
        *place = Text::default();
        put_distinct(part, name, place);
        place.get().map(drop).ok_or_else(too_long)
    }

    /// The route; none if no table was named.
    fn put(&self, path: &mut RoutePath) -> Result<(), Poison> {
        if self.table.is_empty() {
            if self.dataset.is_empty() && self.project.is_empty() {
                return Ok(());
            }
            return Err(invalid("the route has a dataset or a project and no table"));
        }
        if self.dataset.is_empty() && !self.project.is_empty() {
            return Err(invalid("the route has a project and no dataset"));
        }
        let mut level = Text::<{ RoutePath::LEVEL_MAX }>::default();
        for part in
            [self.project.get(), self.dataset.get()].into_iter().flatten().filter(|part| !part.is_empty())
        {
            level.push(part);
            level.push(".");
        }
        level.push(self.table.get().unwrap_or_default());
        path.push(level.get().ok_or_else(too_long)?)
    }
}

/// A partitioner made of a function that names tables.
///
/// A function that names none leaves the record where the sink sends its topic. It must be pure, like
/// [`Partitioner::route`], and takes a `name` with a version, because it has no identity of its own that the layout's fingerprint
/// could hold: change the name when you change what the function does.
///
/// ```
/// use aqueduct_core::{Poison, Record};
/// use aqueduct_sink_bigquery::{TableRoute, by_table_fn};
///
/// struct Order {
///     tenant: String,
///     test: bool,
/// }
///
/// let by_tenant = by_table_fn("tenant/1", |_: &Record<'_>, order: &Order, to: &mut TableRoute| {
///     if order.test {
///         to.dataset("trash")?;
///     }
///     to.table(&order.tenant)
/// });
/// # fn is_partitioner(_: impl aqueduct_core::Partitioner<Order>) {}
/// # is_partitioner(by_tenant);
/// ```
pub fn by_table_fn<T: ?Sized, F>(name: impl Into<String>, route: F) -> ByTableFn<F>
where
    F: Fn(&Record<'_>, &T, &mut TableRoute) -> Result<(), Poison> + Send + Sync + 'static,
{
    ByTableFn { name: name.into(), route }
}

/// See [`by_table_fn`].
#[derive(Clone)]
pub struct ByTableFn<F> {
    name: String,
    route: F,
}

impl<F> fmt::Debug for ByTableFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByTableFn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: ?Sized, F> Partitioner<T> for ByTableFn<F>
where
    F: Fn(&Record<'_>, &T, &mut TableRoute) -> Result<(), Poison> + Send + Sync + 'static,
{
    fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        let mut to = TableRoute::default();
        (self.route)(record, value, &mut to)?;
        to.put(path)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", format_args!("table-fn/1 {}", self.name));
    }
}

/// Longer values are no names, whatever is made of them.
const RAW_MAX: usize = 1024;

fn spell(path: &FieldPath, value: &FieldValue<'_>, out: &mut Text<RAW_MAX>) -> Result<(), Poison> {
    use fmt::Write as _;
    let written = match value {
        FieldValue::Str(text) => {
            out.push(text);
            Ok(())
        }
        FieldValue::Bool(truth) => write!(out, "{truth}"),
        FieldValue::I64(number) => write!(out, "{number}"),
        FieldValue::U64(number) => write!(out, "{number}"),
        FieldValue::Uuid(bytes) => bytes.iter().enumerate().try_for_each(|(place, byte)| {
            write!(out, "{}{byte:02x}", if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" })
        }),
        FieldValue::Date(days) => {
            let span = jiff::SignedDuration::from_hours(i64::from(*days) * 24);
            match jiff::civil::Date::constant(1970, 1, 1).checked_add(span) {
                Ok(date) => write!(out, "{date}"),
                Err(_) => Err(fmt::Error),
            }
        }
        _ => Err(fmt::Error),
    };
    written.map_err(|_| {
        let detail = format!("field {path} is no text, truth value, whole number, UUID or day, and is to be part of a table's name");
        Poison::new(PoisonReason::InvalidField, detail)
    })
}

#[cold]
fn invalid(problem: &str) -> Poison {
    Poison::new(PoisonReason::InvalidRoute, problem)
}

#[cold]
fn too_long() -> Poison {
    invalid("the name of the table is longer than a route may be")
}

#[cfg(test)]
mod tests {
    use aqueduct_converters::JsonValue;
    use aqueduct_core::testkit::{check_fingerprints_differ, check_partitioner, fingerprint_of};
    use aqueduct_core::{BatchBuilder, Offset, Permit, Timestamp, TopicPartition};

    use super::*;

    fn route<T: ?Sized>(by: &impl Partitioner<T>, value: &T) -> Result<String, Poison> {
        let mut batch = BatchBuilder::new(TopicPartition::new("t", 0), 0);
        batch.push(Offset::ZERO, Timestamp::None, None, None, []);
        let batch = batch.build(Permit::unlimited());
        let mut path = RoutePath::new(0);
        by.route(&batch.get(0).unwrap(), value, &mut path).map(|()| path.as_str().to_owned())
    }

    fn json(text: &str) -> JsonValue {
        JsonValue::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn fields_are_parts_of_names() {
        let by = ByTable::template("q.${shop.region}_$$.t_$tenant-${n}").unwrap_err();
        assert!(by.to_string().contains('$'), "{by}");
        let by = ByTable::template("q.${shop.region}_raw.t_$tenant-${n}").unwrap();
        let value = json(r#"{"shop": {"region": "eu"}, "tenant": "a b", "n": 7}"#);
        assert_eq!(route(&by, &value).unwrap(), "q.eu_raw.t_a b-7");
        // Borders are dots that the template has and no others.
        let value = json(r#"{"shop": {"region": "x.y"}, "tenant": "a/b", "n": true}"#);
        let hostile = route(&by, &value).unwrap();
        assert!(hostile.starts_with("q.x_y_raw_x") && hostile.matches('.').count() == 2, "{hostile}");
        assert!(!hostile.contains(['/', '%', '=']), "{hostile}");
    }

    #[test]
    fn records_without_a_name_are_poison_or_go_where_their_topic_goes() {
        let by = ByTable::field("tenant").unwrap();
        for (value, reason) in [
            ("{}", PoisonReason::MissingField),
            (r#"{"tenant": null}"#, PoisonReason::MissingField),
            (r#"{"tenant": 1.5}"#, PoisonReason::InvalidField),
            (r#"{"tenant": []}"#, PoisonReason::InvalidField),
        ] {
            assert_eq!(route(&by, &json(value)).unwrap_err().reason(), reason, "{value}");
        }
        let long = json(&format!(r#"{{"tenant": "{}"}}"#, "x".repeat(RAW_MAX + 1)));
        let poison = route(&by, &long).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::InvalidRoute);
        assert!(!poison.detail().contains("xxx"), "no value is shown");
        let or_default = by.or_default();
        assert_eq!(route(&or_default, &json("{}")).unwrap(), "");
        assert!(route(&or_default, &json(r#"{"tenant": 1.5}"#)).is_err());
        assert_eq!(route(&or_default, &json(r#"{"tenant": -3}"#)).unwrap(), "-3");
    }

    #[test]
    fn a_closure_names_tables() {
        let by = |parts: [&'static str; 3]| {
            by_table_fn("f/1", move |_: &Record<'_>, (): &(), to: &mut TableRoute| {
                let [project, dataset, table] = parts;
                (!project.is_empty()).then(|| to.project(project)).transpose()?;
                (!dataset.is_empty()).then(|| to.dataset(dataset)).transpose()?;
                (!table.is_empty()).then(|| to.table(table)).transpose().map(drop)
            })
        };
        for (parts, expected) in [
            (["", "", ""], Some("")),
            (["", "", "t"], Some("t")),
            (["", "d", "t"], Some("d.t")),
            (["example.com:p", "d", "t"], Some("example.com:p.d.t")),
            (["p", "", "t"], None),
            (["", "d", ""], None),
            (["p/p", "d", "t"], None),
        ] {
            assert_eq!(route(&by(parts), &()).ok().as_deref(), expected, "{parts:?}");
        }
    }

    #[test]
    fn both_are_partitioners_and_have_an_identity() {
        let by = |text| ByTable::template(text).unwrap();
        let value = |record: &Record<'_>| JsonValue::parse(record.value_bytes()?).ok();
        check_partitioner(&by("a.t_$b").or_default(), &[], value);
        let of = |by: &dyn Partitioner<JsonValue>| fingerprint_of(|parts| by.fingerprint(parts));
        let closure =
            |name: &str| by_table_fn(name, |_: &Record<'_>, _: &JsonValue, _: &mut TableRoute| Ok(()));
        check_fingerprints_differ([
            ("one", of(&by("$a"))),
            ("other", of(&by("$b"))),
            ("or default", of(&by("$a").or_default())),
            ("closure", of(&closure("f/1"))),
            ("another closure", of(&closure("f/2"))),
        ]);
    }
}
