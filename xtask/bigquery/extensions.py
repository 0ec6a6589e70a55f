"""Puts DuckDB's extensions, which are wheels here, where DuckDB looks for them in the home directory that is the argument."""

import importlib.util
import pathlib
import shutil
import sys

import duckdb

home = pathlib.Path(sys.argv[1])
version = f"v{duckdb.__version__}"
platform = duckdb.sql("PRAGMA platform").fetchone()[0]
place = home / ".duckdb" / "extensions" / version / platform
place.mkdir(parents=True, exist_ok=True)
for name in ("avro", "spatial"):
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    if package is None or package.origin is None:
        sys.exit(f"there is no package duckdb_extension_{name}")
    extension = pathlib.Path(package.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
    shutil.copyfile(extension, place / extension.name)
