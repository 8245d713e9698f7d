"""Lines of Python that export a table's live rows as a folder of Parquet files, for each table format."""

import os
from dataclasses import dataclass

from tasks.core.model import TableFolder


@dataclass(frozen=True, slots=True)
class Export:
    """Code that exports a table.

    Attributes:
        needs: The packages to install, with notes.
        lines: A line of imports, and a line that writes the snapshot.
    """

    needs: str
    lines: tuple[str, str]


def export_of(table: TableFolder) -> Export:
    """The code that exports a table to a folder beside it."""
    needs, imports, rows = {"Delta": _delta, "Iceberg": _iceberg, "Hudi": _hudi}[table.kind](table)
    snapshot = f"{table.address}-snapshot"
    write = f'pyarrow.dataset.write_dataset({rows}, {snapshot!r}, format="parquet")'
    return Export(needs, (f"import {imports}, pyarrow.dataset", write))


def _delta(table: TableFolder) -> tuple[str, str, str]:
    is_plain_http = _is_s3(table) and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    options = ', storage_options={"allow_http": "true"}' if is_plain_http else ""
    # Unlike `to_pyarrow_dataset`, a scan reads tables with deletion vectors and mapped columns.
    rows = f"pyarrow.RecordBatchReader.from_stream(deltalake.DeltaTable({table.address!r}{options}).scan())"
    return "deltalake 1.6 or later", "deltalake, pyarrow", rows


def _iceberg(table: TableFolder) -> tuple[str, str, str]:
    imports, options = "pyiceberg.table", ""
    if _is_s3(table) and os.environ.get("AWS_ENDPOINT_URL"):
        # pyiceberg does not read this variable, and without a region it requests the bucket's from Amazon.
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        imports = "os, pyiceberg.table"
        options = f', {{"s3.endpoint": os.environ["AWS_ENDPOINT_URL"], "s3.region": {region!r}}}'
    metadata = f"{table.address}/metadata/{table.metadata}"
    loaded = f"pyiceberg.table.StaticTable.from_metadata({metadata!r}{options})"
    needs = (
        "pyiceberg (if a catalog keeps the table, load it from there in place of StaticTable: the newest "
        "metadata file need not be the current one)"
    )
    return needs, imports, f"{loaded}.scan().to_arrow_batch_reader()"


def _hudi(table: TableFolder) -> tuple[str, str, str]:
    needs = 'hudi 0.5 or later (or in Spark with Hudi\'s bundle, spark.read.format("hudi"))'
    return needs, "hudi", f"hudi.HudiTableBuilder.from_base_uri({table.address!r}).build().read()"


def _is_s3(table: TableFolder) -> bool:
    return table.address.startswith("s3://")
