//! What people read about them.

use std::fmt::Write as _;
use std::path::Path;

use aqueduct_core::metrics_reference;

#[test]
fn the_document_shows_the_reference() {
    let mut table = String::from("| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n");
    for metric in metrics_reference() {
        let labels = if metric.labels.is_empty() { "–" } else { metric.labels };
        writeln!(table, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let shown: Vec<_> = document.lines().filter(|line| line.starts_with('|')).collect();
    assert!(shown.join("\n") == table.trim_end(), "the table in {} has to be:\n\n{table}", path.display());
}
