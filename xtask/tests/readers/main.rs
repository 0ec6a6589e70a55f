//! What the readers say of files whose contents are known. Fetches packages from `PyPI` on its first run, so it is not among the
//! tests of `cargo test --workspace`: run it by `cargo test --package xtask --test readers -- --ignored`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::readers::{Around, Cell, Contents, Reader, Readers, Request, Unit};
use xtask::services::Cache;

#[test]
#[ignore = "fetches Python packages"]
fn readers_tell_what_is_in_a_file() -> Result<()> {
    let readers = Readers::install(&Cache::from_env()?)?;
    let dir = tempfile::tempdir()?;
    let samples = include_str!("samples.py");
    let made = Command::new(readers.python()).args(["-I", "-c", samples]).arg(dir.path()).status()?;
    ensure!(made.success(), "the samples were not made: {made}");

    let parquet = ["none", "snappy", "gzip", "zstd"];
    let avro = ["null", "deflate", "snappy", "zstandard"];
    let file =
        |name: String, reader, compression| Request { path: dir.path().join(name), reader, compression };
    let mut requests = Vec::new();
    for codec in parquet {
        requests.push(file(format!("{codec}.parquet"), Reader::Arrow, Around::None));
        requests.push(file(format!("{codec}.parquet"), Reader::DuckDb, Around::None));
    }
    requests.extend(avro.map(|codec| file(format!("{codec}.avro"), Reader::FastAvro, Around::None)));
    let around = [("", Around::None), (".gz", Around::Gzip), (".zst", Around::Zstd)];
    requests.extend(around.map(|(end, it)| file(format!("rows.jsonl{end}"), Reader::JsonL, it)));
    requests.push(file("rows.json".to_owned(), Reader::Json, Around::None));
    requests.push(file("rows.csv".to_owned(), Reader::Csv, Around::None));
    requests.push(file("rows.csv".to_owned(), Reader::Lines, Around::None));
    for refused in ["twice.jsonl", "cut.jsonl", "missing.jsonl"] {
        requests.push(file(refused.to_owned(), Reader::JsonL, Around::None));
    }
    requests.push(file("rows.csv".to_owned(), Reader::Arrow, Around::None));

    let mut told = requests.iter().zip(readers.read(&requests)?);
    let mut next = |rows: &[Cell], codec: &str| -> Result<()> {
        let (request, contents) = told.next().context("no more files")?;
        let Contents { rows: found, codecs, .. } =
            contents.map_err(|error| anyhow::anyhow!("{}: {error}", request.path.display()))?;
        check(&request.path, rows, &found, request.reader)?;
        ensure!(codecs == [codec], "{}: {codecs:?}", request.path.display());
        Ok(())
    };
    for codec in ["uncompressed", "snappy", "gzip", "zstd"] {
        next(&columns(), codec)?;
        next(&columns(), codec)?;
    }
    for codec in avro {
        next(&[edges()], codec)?;
    }
    for codec in ["none", "gzip", "zstd"] {
        next(&lines(), codec)?;
    }
    next(&[Cell::record([("a", Cell::Int(i128::from(u64::MAX)))]), Cell::List(Vec::new())], "none")?;
    next(&[Cell::record([("a", Cell::text("x \"y\"\r\n")), ("b", Cell::text(""))])], "none")?;
    let raw = [b"a,b\r".to_vec(), b"\"x \"\"y\"\"\r".to_vec(), b"\",\r".to_vec()].map(Cell::Bytes);
    next(&raw, "none")?;
    for (wanted, (request, contents)) in ["twice", "no end", "FileNotFoundError", "Arrow"].iter().zip(told) {
        let error = contents.err().with_context(|| format!("{} was read", request.path.display()))?;
        ensure!(error.contains(wanted), "{}: {error}", request.path.display());
    }
    Ok(())
}

fn check(path: &Path, wanted: &[Cell], found: &[Cell], reader: Reader) -> Result<()> {
    ensure!(wanted.len() == found.len(), "{}: {} rows", path.display(), found.len());
    for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
        if let Some(difference) = reader.sees(wanted.clone()).difference(found) {
            anyhow::bail!("{} by {reader:?}, row {index}{difference}", path.display());
        }
    }
    Ok(())
}

fn columns() -> Vec<Cell> {
    let dec = |text: &str| Cell::Decimal(text.to_owned());
    let list = Cell::List;
    let first = Cell::record([
        ("bool", Cell::Bool(true)),
        ("i64", Cell::Int(i128::from(i64::MIN))),
        ("u64", Cell::Int(i128::from(u64::MAX))),
        ("f64", Cell::f64(f64::NAN)),
        ("f32", Cell::f32(1e-30)),
        ("dec", dec("-1.50")),
        ("text", Cell::text("ü𝄞\0")),
        ("bytes", Cell::Bytes(vec![0, 255])),
        ("fixed", Cell::Bytes(b"abcd".to_vec())),
        ("date", Cell::Date(-719_162)),
        ("time_ms", Cell::Time(1, Unit::Millis)),
        ("time_ns", Cell::Time(86_399_999_999_999, Unit::Nanos)),
        ("ts_ms", Cell::Timestamp(-62_135_596_800_000, Unit::Millis, true)),
        ("ts_us", Cell::Timestamp(-1, Unit::Micros, true)),
        ("ts_ns", Cell::Timestamp(i64::MIN, Unit::Nanos, false)),
        ("record", Cell::record([("a", Cell::Int(1)), ("b", Cell::Null)])),
        ("list", list(Vec::new())),
        ("map", Cell::map([("a", Cell::Null), ("b", Cell::Int(1))])),
    ]);
    let second = Cell::record([
        ("bool", Cell::Null),
        ("i64", Cell::Int(i128::from(i64::MAX))),
        ("u64", Cell::Null),
        ("f64", Cell::f64(-0.0)),
        ("f32", Cell::f32(f32::NEG_INFINITY)),
        ("dec", dec(&format!("{}.99", "9".repeat(36)))),
        ("text", Cell::Null),
        ("bytes", Cell::Bytes(Vec::new())),
        ("fixed", Cell::Null),
        ("date", Cell::Date(2_932_896)),
        ("time_ms", Cell::Null),
        ("time_ns", Cell::Null),
        ("ts_ms", Cell::Timestamp(253_402_300_799_999, Unit::Millis, true)),
        ("ts_us", Cell::Null),
        ("ts_ns", Cell::Timestamp(i64::MAX, Unit::Nanos, false)),
        ("record", Cell::Null),
        ("list", list(vec![list(vec![Cell::Int(1)]), list(vec![Cell::Int(2), Cell::Null]), Cell::Null])),
        ("map", Cell::Map(Vec::new())),
    ]);
    vec![first, second]
}

fn edges() -> Cell {
    let inner = |q| Cell::record([("q", Cell::Int(q))]);
    Cell::record([
        ("long", Cell::Int(i128::from(i64::MIN))),
        ("maybe", Cell::Null),
        ("union", inner(3)),
        ("dec", Cell::Decimal("-1.5000".to_owned())),
        ("fixed_dec", Cell::Decimal("-0.01".to_owned())),
        ("uuid", Cell::Uuid("00000000-0000-0000-0000-00000000abcd".to_owned())),
        ("date", Cell::Date(-719_162)),
        ("ts", Cell::Timestamp(i64::MAX, Unit::Nanos, true)),
        ("local", Cell::Timestamp(-5, Unit::Micros, false)),
        ("span", Cell::Duration([1, 2, u32::MAX])),
        ("enum", Cell::text("B")),
        ("map", Cell::map([("a", inner(2)), ("z", inner(1))])),
        ("list", Cell::List(vec![Cell::Null, Cell::f64(f64::NAN)])),
        ("float", Cell::f32(0.1)),
    ])
}

fn lines() -> Vec<Cell> {
    let number = |text: &str| Cell::Number(text.to_owned());
    let first = Cell::record([
        ("a", Cell::Int(1)),
        ("b", number("1.50")),
        ("c", Cell::List(vec![number("1e400"), number("-0")])),
        ("d", Cell::record([("x", Cell::Null)])),
    ]);
    vec![first, Cell::text("ü")]
}
