"""Writes files with values at the edges into the directory named first, by the libraries that will read them."""

import gzip
import pathlib
import struct
import sys
from decimal import Decimal

import fastavro
import fastavro.write
import pyarrow as pa
import pyarrow.parquet as pq

try:
    from compression import zstd
except ImportError:
    from backports import zstd

out = pathlib.Path(sys.argv[1])


def bits(values, plain, kind):
    """Values by what they are stored as: Python's own times do not reach as far."""
    return pa.array(values, plain).cast(kind) if plain == pa.int32() else pa.array(values, plain).view(kind)


table = pa.table({
    "bool": pa.array([True, None]),
    "i64": pa.array([-(1 << 63), (1 << 63) - 1]),
    "u64": pa.array([(1 << 64) - 1, None], pa.uint64()),
    "f64": pa.array([float("nan"), -0.0]),
    "f32": pa.array([1e-30, float("-inf")], pa.float32()),
    "dec": pa.array([Decimal("-1.50"), Decimal("9" * 36 + ".99")], pa.decimal128(38, 2)),
    "text": pa.array(["ü𝄞\0", None]),
    "bytes": pa.array([b"\0\xff", b""]),
    "fixed": pa.array([b"abcd", None], pa.binary(4)),
    "date": bits([-719162, 2932896], pa.int32(), pa.date32()),
    "time_ms": bits([1, None], pa.int32(), pa.time32("ms")),
    "time_ns": bits([86_399_999_999_999, None], pa.int64(), pa.time64("ns")),
    "ts_ms": bits([-62_135_596_800_000, 253_402_300_799_999], pa.int64(), pa.timestamp("ms", "UTC")),
    "ts_us": bits([-1, None], pa.int64(), pa.timestamp("us", "UTC")),
    "ts_ns": bits([-(1 << 63), (1 << 63) - 1], pa.int64(), pa.timestamp("ns")),
    "record": pa.array([{"a": 1, "b": None}, None], pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.string())]))])),
    "list": pa.array([[], [[1], [2, None], None]], pa.list_(pa.list_(pa.int32()))),
    "map": pa.array([[("b", 1), ("a", None)], []], pa.map_(pa.string(), pa.int64())),
})
for codec in ("none", "snappy", "gzip", "zstd"):
    pq.write_table(table, out / f"{codec}.parquet", compression=codec, store_schema=False)

schema = {"type": "record", "name": "Edge", "namespace": "of.things", "fields": [
    {"name": "long", "type": "long"},
    {"name": "maybe", "type": ["null", "string"]},
    {"name": "union", "type": ["null", "long", "string", {
        "type": "record", "name": "Inner", "fields": [{"name": "q", "type": "int"}]}]},
    {"name": "dec", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
    {"name": "fixed_dec", "type": {"type": "fixed", "name": "F8", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 2}},
    {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "date", "type": {"type": "int", "logicalType": "date"}},
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
    {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
    {"name": "span", "type": {"type": "fixed", "name": "Span", "size": 12, "logicalType": "duration"}},
    {"name": "enum", "type": {"type": "enum", "name": "Letter", "symbols": ["A", "B"]}},
    {"name": "map", "type": {"type": "map", "values": "Inner"}},
    {"name": "list", "type": {"type": "array", "items": ["null", "double"]}},
    {"name": "float", "type": "float"},
]}
fastavro.write.LOGICAL_WRITERS.clear()
rows = [{
    "long": -(1 << 63), "maybe": None, "union": {"q": 3}, "dec": (-15000).to_bytes(3, "big", signed=True),
    "fixed_dec": (-1).to_bytes(8, "big", signed=True), "uuid": "00000000-0000-0000-0000-00000000abcd", "date": -719162,
    "ts": (1 << 63) - 1, "local": -5, "span": struct.pack("<III", 1, 2, (1 << 32) - 1), "enum": "B",
    "map": {"z": {"q": 1}, "a": {"q": 2}}, "list": [None, float("nan")], "float": 0.1,
}]
for codec in ("null", "deflate", "snappy", "zstandard"):
    with open(out / f"{codec}.avro", "wb") as file:
        fastavro.writer(file, schema, rows, codec=codec)

lines = '{"a":1,"b":1.50,"c":[1e400,-0],"d":{"x":null}}\n"ü"\n'.encode()
(out / "rows.jsonl").write_bytes(lines)
(out / "rows.jsonl.gz").write_bytes(gzip.compress(lines[:10]) + gzip.compress(lines[10:]))
(out / "rows.jsonl.zst").write_bytes(zstd.compress(lines[:10]) + zstd.compress(lines[10:]))
(out / "rows.json").write_bytes(b'[{"a":18446744073709551615},\n[]]')
(out / "rows.csv").write_bytes(b'a,b\r\n"x ""y""\r\n",\r\n')
(out / "twice.jsonl").write_bytes(b'{"a":1}\n{"a":1,"a":2}\n')
(out / "cut.jsonl").write_bytes(b'{"a":1}\n{"a":2}')
