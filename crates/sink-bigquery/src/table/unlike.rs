//! Where a table that exists is not as it would be made.

use serde_json::Value;

/// What is compared, by its place in the resource and as an option's user knows it. Expiration, description and labels are
/// anybody's to change, and decide nothing about rows.
const COMPARED: [(&str, &str, &str); 9] = [
    ("/timePartitioning/type", "the length of its partitions", ""),
    ("/timePartitioning/field", "the column it is partitioned by", "the time rows arrive"),
    ("/timePartitioning/expirationMs", "the expiration of its partitions", "never"),
    ("/rangePartitioning/field", "the column it is partitioned by in ranges", ""),
    ("/rangePartitioning/range/start", "the start of its ranges", ""),
    ("/rangePartitioning/range/end", "the end of its ranges", ""),
    ("/rangePartitioning/range/interval", "the length of its ranges", ""),
    ("/clustering/fields", "the columns it is clustered by", ""),
    ("/tableConstraints/primaryKey/columns", "its primary key", ""),
];

/// The differences, in words. What was not asked for may be anything.
pub(super) fn differences(asked: &Value, found: &Value) -> Vec<String> {
    COMPARED
        .iter()
        .filter_map(|(path, what, absent)| {
            let part = path.get(1..).and_then(|path| path.split('/').next()).unwrap_or_default();
            // Within something that was asked for, what is absent says something as well.
            asked.get(part)?;
            let (asked, found) = (asked.pointer(path), found.pointer(path));
            let same = match (asked, found) {
                (None, None) => true,
                (Some(asked), Some(found)) => shown(asked).eq_ignore_ascii_case(&shown(found)),
                (Some(_), None) | (None, Some(_)) => false,
            };
            let told = |value: Option<&Value>| match value {
                Some(value) => shown(value),
                None if absent.is_empty() => "none".to_owned(),
                None => (*absent).to_owned(),
            };
            (!same).then(|| format!("{what}: {} instead of {}", told(found), told(asked)))
        })
        .collect()
}

/// Numbers come as texts and as numbers.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_named_and_what_was_not_asked_for_is_not() {
        let asked = json!({
            "timePartitioning": {"type": "DAY", "field": "at", "expirationMs": "1000"},
            "clustering": {"fields": ["a", "b"]},
        });
        let same = json!({
            "timePartitioning": {"type": "DAY", "field": "AT", "expirationMs": 1000},
            "clustering": {"fields": ["a", "b"]}, "tableConstraints": {"primaryKey": {"columns": ["a"]}},
            "labels": {"x": "y"},
        });
        assert_eq!(differences(&asked, &same), Vec::<String>::new());
        let other = json!({"timePartitioning": {"type": "HOUR"}, "clustering": {"fields": ["b", "a"]}});
        assert_eq!(
            differences(&asked, &other),
            [
                "the length of its partitions: HOUR instead of DAY",
                "the column it is partitioned by: the time rows arrive instead of at",
                "the expiration of its partitions: never instead of 1000",
                "the columns it is clustered by: b, a instead of a, b",
            ]
        );
        let plain =
            differences(&json!({"rangePartitioning": {"field": "n", "range": {"start": "0"}}}), &json!({}));
        assert_eq!(plain.len(), 2, "{plain:?}");
        assert_eq!(differences(&json!({}), &other), Vec::<String>::new());
    }
}
