//! Values as nobody should send them: a corpus for all converters, in bounded memory, and no payload in what is said of them.

use std::time::{Duration, Instant};

use aqueduct_converters::{Json, RawBytes, Serde, Utf8};
use aqueduct_core::testkit::check_corpus;
use aqueduct_core::{
    BatchBuilder, Converted, Converter, FieldPath, FieldValue, Fields, JsonRow, Offset, Permit, Poison,
    Timestamp, TopicPartition,
};
use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A type as users write them: a field of any shape, and whatever else comes is passed over.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Event {
    a: serde_json::Value,
}

fn convert<C: Converter>(converter: &C, value: &Bytes) -> Result<Converted<C::Output>, Poison> {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), value.len());
    builder.push(Offset::ZERO, Timestamp::None, None, Some(value), []);
    converter.convert(&builder.build(Permit::unlimited()).get(0).unwrap())
}

/// What the converter made of the value, as a row of JSON; one line, as a format of lines needs it.
fn row<C: Converter<Output: JsonRow>>(converter: &C, value: &Bytes) -> Result<(C::Output, usize), String> {
    match convert(converter, value) {
        Ok(Converted::Emit(value)) => {
            let mut row = Vec::new();
            value.write_json(&mut row).map_err(|poison| poison.to_string())?;
            assert!(!row.contains(&b'\n') && !row.contains(&b'\r'), "a row is one line");
            Ok((value, row.len()))
        }
        Ok(_) => panic!("nothing of a value that is there"),
        Err(poison) => Err(poison.to_string()),
    }
}

/// The start of a verdict that may show megabytes.
fn short(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| &text[..end])
}

/// Paths to look for in every document: the last is deeper than any document may be.
fn paths() -> [(&'static str, FieldPath); 4] {
    let deep = |levels: usize| FieldPath::parse(&vec!["a"; levels].join(".")).unwrap();
    let nested = FieldPath::parse("a.b").unwrap();
    [("a", deep(1)), ("a.b", nested), ("a.a.…", deep(127)), ("beyond", deep(100_000))]
}

fn json_verdict(value: &Bytes, paths: &[(&str, FieldPath)]) -> String {
    let (value, length) = match row(&Json::new(), value) {
        Ok(converted) => converted,
        Err(poison) => return poison,
    };
    let mut verdict = format!("{length} bytes");
    for (shown, path) in paths {
        if let Some(found) = value.field(path) {
            let found = match &found {
                FieldValue::Str(text) => format!("{:?}", short(text)),
                other => format!("{other:?}"),
            };
            verdict = format!("{verdict}, {shown} is {found}");
        }
    }
    verdict
}

/// Every converter judges every file. Bombs among them end in a verdict, and the whole of it in memory that is a fraction of
/// what would be needed to follow them: the process's own high-water mark says so.
#[test]
fn documents_of_the_corpus_get_their_verdicts_in_bounded_memory() {
    let paths = paths();
    let mut slowest = (Duration::ZERO, String::new());
    check_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/documents"), |name, bytes| {
        let (value, started) = (Bytes::from(bytes), Instant::now());
        let json = json_verdict(&value, &paths);
        let typed = row(&Serde::<Event>::new(), &value).map(|(_, length)| format!("{length} bytes"));
        let text = row(&Utf8::new(), &value).map(|(_, length)| format!("{length} bytes"));
        assert!(matches!(convert(&RawBytes::new(), &value), Ok(Converted::Emit(raw)) if raw == value));
        slowest = slowest.clone().max((started.elapsed(), name.to_owned()));
        format!(
            "json: {json} | typed: {} | text: {}",
            typed.unwrap_or_else(|it| it),
            text.unwrap_or_else(|it| it)
        )
    });
    // What is quadratic in megabytes takes hours.
    assert!(slowest.0 < Duration::from_secs(30), "{slowest:?}");
    if let Some(peak) = peak_memory() {
        assert!(peak < 128 << 20, "the process had {} MiB", peak >> 20);
        // It can tell.
        let mut held = vec![1_u8; 160 << 20];
        held.fill(2);
        assert!(peak_memory().unwrap() > 128 << 20 && held.iter().step_by(4096).all(|&byte| byte == 2));
    }
}

/// The most memory this process ever had, where the kernel says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What no poison may show of a value.
const CANARY: &str = "hunter2";

/// Documents with the canary as name, as text and between tokens, and pieces of such.
fn value_with_canary() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\ud800",
        "\\u0068",
        "0",
        "1e999",
        "true",
        "nul",
        " ",
        "\n",
        "\0",
        "\"a\":",
        "\"hunter2\"",
        "\"hunter2\":",
        "hunter2",
        "{\"a\":\"hunter2\"",
        "{\"hunter2\":1,",
        "\u{feff}",
        "\u{e9}",
    ]);
    (prop::collection::vec(piece, 0..16), prop::option::of((any::<prop::sample::Index>(), any::<u8>())))
        .prop_map(|(pieces, damage)| {
            let mut value = pieces.concat().into_bytes();
            if let Some((at, byte)) = damage
                && !value.is_empty()
            {
                let at = at.index(value.len());
                value[at] = byte;
            }
            value
        })
}

proptest! {
    #[test]
    fn no_poison_quotes_the_value(value in value_with_canary()) {
        let value = Bytes::from(value);
        let converters = [
            convert(&Json::new(), &value).err(),
            convert(&Serde::<Event>::new(), &value).err(),
            convert(&Serde::<Vec<u64>>::new(), &value).err(),
            convert(&Serde::<String>::new(), &value).err(),
            convert(&Utf8::new(), &value).err(),
        ];
        for poison in converters.into_iter().flatten() {
            let text = format!("{poison} {poison:?}");
            prop_assert!(!text.contains(CANARY) && !poison.detail().contains(['\n', '\r']), "{}", text);
        }
    }

    #[test]
    fn a_type_reads_what_serde_json_reads(value in prop_oneof![value_with_canary(), any::<Vec<u8>>()]) {
        let value = Bytes::from(value);
        let expected: Option<Event> = serde_json::from_slice(&value).ok();
        let converted = match convert(&Serde::<Event>::new(), &value) {
            Ok(Converted::Emit(event)) => Some(event.0),
            _ => None,
        };
        prop_assert_eq!(converted, expected);
    }
}
