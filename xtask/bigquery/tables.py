"""Datasets and tables as Google's own client sees them: a request as JSON on standard input, JSON lines as the answer.

No call is repeated: the client would take an emulator's errors for passing ones and be silent for many minutes.
"""

import datetime
import decimal
import json
import sys

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
PATIENCE = {"retry": None, "timeout": 120}
IDENTITY = "_kafka_topic, _kafka_partition, _kafka_offset"


def plain(value):
    """Times count microseconds; decimals are text without zeros at their end."""
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, decimal.Decimal):
        return format(value.normalize(), "f")
    raise TypeError(f"{value!r} was not expected")


def say(line):
    print(json.dumps(line, default=plain, separators=(",", ":")))


def number(client, sql):
    job = client.query(sql, job_retry=None, **PATIENCE)
    (row,) = job.result(job_retry=None, **PATIENCE)
    return row[0]


def recreate(client, dataset):
    client.delete_dataset(dataset, delete_contents=True, not_found_ok=True, **PATIENCE)
    client.create_dataset(bigquery.Dataset(dataset), **PATIENCE)


def read(client, dataset):
    for item in client.list_tables(dataset, **PATIENCE):
        name = f"`{item.project}.{item.dataset_id}.{item.table_id}`"
        rows = number(client, f"SELECT COUNT(*) FROM {name}")
        distinct = number(client, f"SELECT COUNT(*) FROM (SELECT DISTINCT {IDENTITY} FROM {name})")
        table = client.get_table(item.reference, **PATIENCE)
        partitioning, clustering = table.time_partitioning, table.clustering_fields
        say(
            {
                "table": {
                    "name": item.table_id,
                    "rows": rows,
                    "distinct": distinct,
                    "partitioned_by": partitioning.field if partitioning else None,
                    "clustered_by": clustering or [],
                }
            }
        )
        for row in client.list_rows(table, page_size=10_000, **PATIENCE):
            say({"row": dict(row)})
    say("end")


def main():
    request = json.load(sys.stdin)
    options = ClientOptions(api_endpoint=request["endpoint"])
    client = bigquery.Client(request["project"], credentials=AnonymousCredentials(), client_options=options)
    dataset = f"{request['project']}.{request['dataset']}"
    {"recreate": recreate, "read": read}[request["do"]](client, dataset)


main()
