"""Bytes between this machine and the store when one wide partition on S3 is enriched.

    python -m tests.bench.bytes_moved --columns 20 --mb-a-column 50

The store is SeaweedFS behind a proxy that counts the bodies of requests and replies in both directions. The
minimum is the size of the text column's chunks plus the tail. Summaries come from a fake model without
latency; segments of the ledger are counted too.
"""

import argparse
import io
import os
import random
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from s3fs import S3FileSystem

from tasks.core.job import prepare
from tasks.core.options import ModelOptions, OutputOptions
from tasks.core.parquet.footer_reading import parse_footer
from tasks.core.settings import Settings
from tasks.core.storage.discovery import discover
from tests.bench.measuring import DEPLOYMENT, flags, print_table
from tests.bench.parquet_only import TruncatedTexts
from tests.enriched_files import run_partition
from tests.faulty_s3_proxy import faulty_proxy
from tests.s3server import S3Server, running_s3_server

_ROWS = 20_000


def main() -> None:
    """Write the partition, enrich it through the proxy, and print the figures."""
    parser = flags(__doc__)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--mb-a-column", type=int, default=50)
    parser.add_argument("--row-groups", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_s3_server(Path(folder)) as server:
        os.environ |= server.environment
        bucket = server.new_bucket()
        source = _source(options)
        server.filesystem().pipe_file(f"{bucket}/in/part.parquet", source)
        with faulty_proxy(server.url) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            S3FileSystem.clear_instance_cache()
            report = _enrich(bucket)
            moved = proxy.bytes_moved
        output = server.filesystem().info(f"{bucket}/out/part.parquet")["size"]
        assert _begins_with(server, f"{bucket}/out/part.parquet", source)
    text = sum(chunk.end - chunk.start for chunk in parse_footer(source).chunks("body"))
    least = text + output - len(source)
    row = {
        "source MB": f"{len(source) / 1e6:,.1f}",
        "text column MB": f"{text / 1e6:,.1f}",
        "tail MB": f"{(output - len(source)) / 1e6:,.2f}",
        "moved MB": f"{moved / 1e6:,.2f}",
        "times the least": f"{moved / least:.3f}",
        "copied MB": f"{report / 1e6:,.1f}",
    }
    print_table(f"{options.columns} columns", [row], [{"moved": moved, "least": least}], options.json)


def _source(options: argparse.Namespace) -> bytes:
    """Incompressible columns, in row groups of equal size."""
    chance, size_bytes = random.Random(7), options.mb_a_column * 10**6 // _ROWS
    names = ["body", *(f"c{number}" for number in range(1, options.columns))]
    sink = io.BytesIO()
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(sink, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(options.row_groups):
            rows = _ROWS // options.row_groups
            arrays = [pa.array([chance.randbytes(size_bytes // 2).hex() for _ in range(rows)]) for _ in names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=rows)
    return sink.getvalue()


def _enrich(bucket: str) -> int:
    """Enrich the partition; returns the bytes that the store copied itself."""
    settings = Settings(azure_openai_endpoint="http://127.0.0.1:9", azure_openai_deployment=DEPLOYMENT)
    job = prepare(
        f"{bucket}/in", f"{bucket}/out", "body", prompt="Be brief.",
        model=ModelOptions(), output=OutputOptions(), settings=settings,
    )  # fmt: skip
    [partition] = discover(job.pattern).partitions
    return run_partition(partition, job, TruncatedTexts()).bytes_copied


def _begins_with(server: S3Server, path: str, source: bytes) -> bool:
    return bool(server.filesystem().cat_file(path, end=len(source)) == source)


if __name__ == "__main__":
    main()
