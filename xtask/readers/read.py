"""Reads object files with other people's libraries and prints what they hold, in one spelling.

Standard input: one JSON object a line, {"path": …, "reader": …, "compression": …}.
Standard output: for each of them one line a row, {"row": …}, then {"end": {"rows": …, "codecs": […], "schema": …}}, or
{"error": …} in place of whatever is still missing. A row is spelled so that equal spelling means equal value:

    null, true, "text", 7            as in JSON
    {"a": …}                         a record; a member that is not there is not there
    […]                              a list
    {"$map": [["key", …], …]}        a map, sorted by its keys
    {"$f64": "7ff8000000000000"}     a float by its bits ($f32 likewise)
    {"$num": "1.50"}                 a number of JSON as it is written, where it is no whole number of 64 bits
    {"$dec": "-1.50"}                a decimal with all its digits
    {"$bytes": "00ff"}               bytes
    {"$uuid": "…"}                   a UUID
    {"$date": 0}                     days since 1970-01-01
    {"$time": [0, "us"]}             units since midnight
    {"$ts": [0, "us", true]}         units since 1970-01-01T00:00, and whether that is UTC
    {"$duration": [1, 2, 3]}         months, days, milliseconds
"""

import csv
import decimal
import gzip
import io
import json
import struct
import sys

try:
    from compression import zstd
except ImportError:
    from backports import zstd

# Decimals have more digits than Python's default context keeps.
decimal.getcontext().prec = 200
csv.field_size_limit(1 << 26)


class Missing(Exception):
    """What the file holds has no spelling here."""


def f64(value):
    return {"$f64": struct.pack(">d", value).hex()}


def f32(value):
    return {"$f32": struct.pack(">f", value).hex()}


def dec(value):
    return {"$dec": format(value, "f")}


def entries(pairs):
    return {"$map": sorted(pairs, key=lambda pair: json.dumps(pair[0]))}


# Arrow: what pyarrow reads, and what DuckDB hands over.


def arrow_cells(array):
    """The spelling of each value of an Arrow array; None where it is null."""
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return [None if cell is None else {"$uuid": str(cell)} for cell in array.to_pylist()]
        cells = arrow_cells(array.storage)
        if kind.extension_name == "arrow.bool8":
            return [None if cell is None else cell != 0 for cell in cells]
        return cells
    if pa.types.is_dictionary(kind):
        return arrow_cells(array.dictionary_decode())
    simple = arrow_simple(kind)
    if simple is not None:
        cast, spell = simple
        array = array if cast is None else array.view(cast)
        return [None if cell is None else spell(cell) for cell in array.to_pylist()]
    valid = array.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        if len(set(names)) != len(names):
            raise Missing(f"a struct names a member twice: {names}")
        columns = [arrow_cells(column) for column in array.flatten()]
        rows = zip(*columns) if columns else ([] for _ in valid)
        return [dict(zip(names, row)) if there else None for row, there in zip(rows, valid)]
    if pa.types.is_map(kind):
        keys, items = arrow_cells(array.keys), arrow_cells(array.items)
        spans = arrow_spans(array, valid)
        return [None if span is None else entries(list(zip(keys[span], items[span]))) for span in spans]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values = arrow_cells(array.values)
        return [None if span is None else values[span] for span in arrow_spans(array, valid)]
    raise Missing(f"a column of {kind}")


def arrow_spans(array, valid):
    offsets = array.offsets.to_pylist()
    return [slice(a, b) if there else None for a, b, there in zip(offsets, offsets[1:], valid)]


def arrow_simple(kind):
    """How a kind without parts is seen (by a type of the same bits, if by another) and spelled."""
    import pyarrow as pa

    same = lambda cell: cell
    is_ = pa.types
    if is_.is_null(kind) or is_.is_boolean(kind) or is_.is_integer(kind):
        return None, same
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return None, same
    if is_.is_float64(kind):
        return None, f64
    if is_.is_float32(kind):
        return None, f32
    if is_.is_decimal(kind):
        return None, dec
    if is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_fixed_size_binary(kind) or is_.is_binary_view(kind):
        return None, lambda cell: {"$bytes": cell.hex()}
    if is_.is_date32(kind):
        return pa.int32(), lambda cell: {"$date": cell}
    if is_.is_time32(kind):
        return pa.int32(), lambda cell: {"$time": [cell, kind.unit]}
    if is_.is_time64(kind):
        return pa.int64(), lambda cell: {"$time": [cell, kind.unit]}
    if is_.is_timestamp(kind):
        utc = kind.tz is not None
        return pa.int64(), lambda cell: {"$ts": [cell, kind.unit, utc]}
    return None


def arrow_table(table):
    names = table.column_names
    if len(set(names)) != len(names):
        raise Missing(f"two columns have one name: {names}")
    for batch in table.to_batches():
        columns = [arrow_cells(column) for column in batch.columns]
        for index in range(batch.num_rows):
            yield dict(zip(names, (column[index] for column in columns)))


def read_arrow(path):
    """Parquet by Arrow's C++ reader. The schema that Arrow writers leave in the file is not looked at: others do not know it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, arrow_extensions_enabled=True) as file:
        meta = file.metadata
        groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
        codecs = {group.column(index).compression.lower() for group in groups for index in range(group.num_columns)}
        yield from arrow_table(file.read())
        return codecs, str(file.schema).partition("\n")[2]


# A query of some seconds would show how far it is, in the midst of the answer.
QUIET = "set enable_progress_bar = false"


def read_duckdb(path):
    """Parquet by DuckDB, which has a reader of its own."""
    import duckdb

    with duckdb.connect(":memory:") as db:
        # Moments are handed over as UTC, whatever zone this machine is in.
        db.execute("set timezone = 'UTC'; set threads = 1; set arrow_lossless_conversion = true")
        db.execute(QUIET)
        described = db.execute("describe select * from read_parquet(?)", [path]).fetchall()
        codecs = db.execute("select distinct lower(compression) from parquet_metadata(?)", [path]).fetchall()
        yield from arrow_table(db.sql("select * from read_parquet(?)", params=[path]).to_arrow_table())
        return {codec for (codec,) in codecs}, ", ".join(f"{name} {kind}" for name, kind, *_ in described)


def read_events(pattern):
    """One row for all Parquet files that match: how many of the load's events they hold, and whether each is in its place."""
    import duckdb

    with duckdb.connect(":memory:") as db:
        db.execute(QUIET)
        counts = db.execute(
            """select count(*), count(distinct seq), min(seq), max(seq), count_if(partition <> seq % 4),
               count_if(length(crc) <> 8 or request.trace_id is null) from read_parquet(?)""",
            [pattern],
        ).fetchone()
        yield dict(zip(["rows", "distinct", "first", "last", "misplaced", "broken"], counts))
        return set(), ""


# Avro.


def read_fastavro(path):
    """Avro object containers by fastavro. Logical types are read here from their plain values: far dates fit no datetime."""
    import fastavro
    import fastavro.read

    fastavro.read.LOGICAL_READERS.clear()
    with open(path, "rb") as file:
        reader = fastavro.reader(file, return_record_name=True, return_named_type=True)
        schema = reader.writer_schema
        named = {}
        avro_names(schema, "", named)
        for row in reader:
            yield avro_cell(row, schema, named)
        return {reader.metadata.get("avro.codec", "null")}, json.dumps(schema)


def avro_full(schema, space):
    name = schema["name"]
    space = schema.get("namespace", space)
    return (name if "." in name or not space else f"{space}.{name}"), space


def avro_names(schema, space, named):
    """Enters every named type by its full name."""
    if isinstance(schema, list):
        for branch in schema:
            avro_names(branch, space, named)
    elif isinstance(schema, dict):
        if schema["type"] in ("record", "error", "enum", "fixed"):
            full, _ = avro_full(schema, space)
            named[full] = schema
            space = full.rpartition(".")[0]
        for part in [field["type"] for field in schema.get("fields", [])]:
            avro_names(part, space, named)
        for key in ("items", "values"):
            if key in schema:
                avro_names(schema[key], space, named)
        if isinstance(schema["type"], (dict, list)):
            avro_names(schema["type"], space, named)


def avro_cell(value, schema, named):
    if isinstance(schema, list):
        return avro_branch(value, schema, named)
    if isinstance(schema, str):
        return avro_cell(value, named[schema], named) if schema in named else avro_plain(value, schema)
    kind, logical = schema["type"], schema.get("logicalType")
    if isinstance(kind, (dict, list)) or (isinstance(kind, str) and kind in named):
        return avro_cell(value, kind, named)
    if logical is not None:
        cell = avro_logical(value, schema, logical)
        if cell is not None:
            return cell
    if kind in ("record", "error"):
        return {field["name"]: avro_cell(value[field["name"]], field["type"], named) for field in schema["fields"]}
    if kind == "array":
        return [avro_cell(item, schema["items"], named) for item in value]
    if kind == "map":
        return entries([(key, avro_cell(item, schema["values"], named)) for key, item in value.items()])
    if kind in ("enum", "fixed"):
        return value if kind == "enum" else {"$bytes": value.hex()}
    return avro_plain(value, kind)


def avro_plain(value, kind):
    if kind in ("null", "boolean", "int", "long", "string"):
        return value
    if kind == "double":
        return f64(value)
    if kind == "float":
        return f32(value)
    if kind == "bytes":
        return {"$bytes": value.hex()}
    raise Missing(f"an Avro value of {kind}")


UNITS = {"millis": "ms", "micros": "us", "nanos": "ns"}


def avro_logical(value, schema, logical):
    if logical == "decimal":
        unscaled = int.from_bytes(value, "big", signed=True)
        return dec(decimal.Decimal(unscaled).scaleb(-schema.get("scale", 0)))
    if logical == "uuid":
        return {"$uuid": uuid_text(value)}
    if logical == "date":
        return {"$date": value}
    if logical == "duration":
        return {"$duration": list(struct.unpack("<III", value))}
    name, _, unit = logical.rpartition("-")
    if name == "time" and unit in UNITS:
        return {"$time": [value, UNITS[unit]]}
    if name in ("timestamp", "local-timestamp") and unit in UNITS:
        return {"$ts": [value, UNITS[unit], name == "timestamp"]}
    return None


def uuid_text(value):
    import uuid

    return str(uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(value))


PLAIN = {
    type(None): ("null",),
    bool: ("boolean",),
    int: ("int", "long"),
    float: ("double", "float"),
    str: ("string", "enum"),
    bytes: ("bytes", "fixed"),
    list: ("array",),
    dict: ("map", "record"),
}


def avro_branch(value, branches, named):
    """The value of a union: by the name that fastavro gives, else by the first branch that takes it."""
    branches = [branch for branch in branches]
    if isinstance(value, tuple):
        name, value = value
        for branch in branches:
            full = branch if isinstance(branch, str) else branch.get("name", "")
            if full == name or full.rpartition(".")[2] == name.rpartition(".")[2]:
                return avro_cell(value, branch, named)
        raise Missing(f"a union's branch {name}")
    for branch in branches:
        schema = named.get(branch, branch) if isinstance(branch, str) else branch
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind in PLAIN[type(value)]:
            return avro_cell(value, branch, named)
    raise Missing(f"no branch of {branches} for {type(value).__name__}")


# Text.


def opened(path, compression):
    """The file's bytes; of compressed files all members and frames."""
    with open(path, "rb") as file:
        stored = file.read()
    if compression == "gzip":
        return gzip.decompress(stored)
    if compression == "zstd":
        return zstd.decompress(stored)
    return stored


def json_object(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Missing("an object names a member twice")
    return members


def no_constant(name):
    raise Missing(f"{name} is no JSON")


JSON = json.JSONDecoder(
    object_pairs_hook=json_object,
    parse_float=lambda text: {"$num": text},
    parse_int=lambda text: int(text) if text != "-0" and -(1 << 63) <= int(text) < 1 << 64 else {"$num": text},
    parse_constant=no_constant,
)


def read_jsonl(data):
    text = data.decode("utf-8")
    lines = text.split("\n")
    if lines.pop() != "":
        raise Missing("the last line has no end")
    for line in lines:
        yield JSON.decode(line)


def read_json(data):
    rows = JSON.decode(data.decode("utf-8"))
    if not isinstance(rows, list):
        raise Missing("no array")
    yield from rows


def read_csv(data):
    """The first line names the columns. Values are text; an absent one is empty text."""
    rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
    names = next(rows, [])
    for row in rows:
        if len(row) != len(names):
            raise Missing(f"a row of {len(row)} values below {len(names)} columns")
        yield dict(zip(names, row))


def read_lines(data):
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise Missing("the last line has no end")
    for line in lines:
        yield {"$bytes": line.hex()}


def read_raw(data):
    yield {"$bytes": data.hex()}


FILES = {"arrow": read_arrow, "duckdb": read_duckdb, "events": read_events, "fastavro": read_fastavro}
TEXTS = {"jsonl": read_jsonl, "json": read_json, "csv": read_csv, "lines": read_lines, "raw": read_raw}


def read(request, say):
    path, reader, compression = request["path"], request["reader"], request.get("compression", "none")
    if reader in FILES:
        rows = FILES[reader](path)
    else:
        rows = TEXTS[reader](opened(path, compression))
    count = 0
    while True:
        try:
            row = next(rows)
        except StopIteration as end:
            codecs, schema = end.value or ({compression}, "")
            say({"end": {"rows": count, "codecs": sorted(codecs), "schema": schema}})
            return
        say({"row": row})
        count += 1


def main():
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="\n")

    def say(line):
        out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
        out.write("\n")

    for line in sys.stdin:
        try:
            read(json.loads(line), say)
        except Exception as error:  # noqa: BLE001: whatever a library says of the file is the answer
            say({"error": f"{type(error).__name__}: {error}"})
    out.flush()


main()
