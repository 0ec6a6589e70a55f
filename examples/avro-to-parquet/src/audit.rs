//! What is in the files, read by the `parquet` crate's own record reader and compared field by field.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use parquet::data_type::Decimal;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::orders::Order;

/// What the audit found.
#[derive(Debug, Default)]
pub struct Findings {
    pub files: usize,
    pub rows: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// In another day's directory.
    pub misplaced: u64,
    /// With another value than was produced.
    pub altered: u64,
    /// Which columns the files have.
    pub columns: String,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.misplaced + self.altered == 0
    }
}

/// Reads every file below `root` and compares it with `orders`.
pub fn check(root: &Path, orders: impl Iterator<Item = Order>) -> Result<Findings> {
    let mut files = Vec::new();
    parquet_files(root, &mut files)?;
    files.sort();
    let mut findings = Findings { files: files.len(), ..Findings::default() };
    let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
    for path in files {
        let opened = File::open(&path).with_context(|| path.display().to_string())?;
        let reader = SerializedFileReader::new(opened).with_context(|| path.display().to_string())?;
        let schema = reader.metadata().file_metadata().schema();
        findings.columns =
            schema.get_fields().iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
        for row in reader.get_row_iter(None)? {
            let row = row.with_context(|| path.display().to_string())?;
            let Some(Field::Long(id)) = column(&row, "id") else {
                bail!("{}: a row without id", path.display())
            };
            let order = Order { number: u32::try_from(*id)? };
            findings.rows += 1;
            *seen.entry(order.number).or_default() += 1;
            let text = path.to_string_lossy();
            findings.misplaced += u64::from(!text.contains(&format!("/{}/", order.day())));
            findings.altered += u64::from(!is_as_produced(&row, order));
        }
    }
    for order in orders {
        match seen.remove(&order.number) {
            None => findings.lost += 1,
            Some(times) => findings.duplicated += times - 1,
        }
    }
    // Rows of orders that nobody should have found.
    findings.altered += seen.len() as u64;
    Ok(findings)
}

fn is_as_produced(row: &Row, order: Order) -> bool {
    let text = |name: &str, expected: Option<String>| match (column(row, name), expected) {
        (Some(Field::Str(found)), Some(expected)) => *found == expected,
        (Some(Field::Null) | None, None) => true,
        _ => false,
    };
    let placed =
        matches!(column(row, "placed_at"), Some(Field::TimestampMillis(ms)) if *ms == order.placed_at_ms());
    placed
        && text("customer", Some(order.customer()))
        && text("currency", Some(order.currency().to_owned()))
        && text("note", order.note())
        && text("voucher", order.voucher())
        && matches!(column(row, "total"), Some(Field::Decimal(total)) if cents(total) == Some(order.cents()))
        && items(row) == Some(order.items().collect())
}

fn items(row: &Row) -> Option<Vec<(String, i32)>> {
    let Some(Field::ListInternal(list)) = column(row, "items") else { return None };
    list.elements()
        .iter()
        .map(|element| match element {
            Field::Group(item) => match (column(item, "sku")?, column(item, "quantity")?) {
                (Field::Str(sku), Field::Int(quantity)) => Some((sku.clone(), *quantity)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// The unscaled number of a decimal with two digits after the point.
fn cents(decimal: &Decimal) -> Option<i64> {
    let bytes = decimal.data();
    let sign = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 8];
    let start = wide.len().checked_sub(bytes.len())?;
    wide[start..].copy_from_slice(bytes);
    (decimal.scale() == 2).then(|| i64::from_be_bytes(wide))
}

fn column<'a>(row: &'a Row, name: &str) -> Option<&'a Field> {
    row.get_column_iter().find(|(column, _)| *column == name).map(|(_, field)| field)
}

fn parquet_files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            parquet_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(())
}
