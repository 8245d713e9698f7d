"""Reading and writing Parquet: the product with immediate replies, compared with pyarrow alone.

    python -m tests.bench.parquet_only --mb 1000

`product` is a whole partition without Prefect: read, look up, append to the ledger, write the tail, publish;
the gateway is replaced by a service that returns the beginning of the text, without HTTP. `rewrite` is
pyarrow
alone: it reads each row group, adds six columns built in Arrow, and writes everything with the same codec.
`append` is only the Parquet part of the product: read the text column, write the six columns, build the
footer; `columns` is the same with pyarrow alone, written to a separate file. Each way runs in its own
process, one after the other, and startup is not measured. `--mb` is text before compression.
"""

import argparse
import json
import random
import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.job import prepare
from tasks.core.model import Outcome, Status
from tasks.core.options import ModelOptions, OutputOptions
from tasks.core.parquet.append_writer import Writer
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.parquet.reader import Reader
from tasks.core.rows.batch import OnRow, Row
from tasks.core.rows.requester import WaitForOutcomes
from tasks.core.settings import Settings
from tasks.core.storage.discovery import discover
from tests.bench.measuring import DEPLOYMENT, flags, median, note, peak_mb, print_table, run_module
from tests.enriched_files import run_partition, text_of

_SUMMARY_CHARACTERS = 200
_COLUMNS = OutputSchema("summary")


class TruncatedTexts:
    """A row service whose summaries are the beginnings of the texts."""

    def begin(self, rows: Iterable[Row], on_row: OnRow) -> WaitForOutcomes:
        """Return a function that computes one outcome per row."""

        def wait() -> list[Outcome]:
            outcomes = []
            for place, row in enumerate(rows):
                summary = (text_of(row) or "")[:_SUMMARY_CHARACTERS]
                outcomes.append(Outcome(Status.OK, summary, None, DEPLOYMENT, 500, 50, requests=1))
                on_row(place, outcomes[-1])
            return outcomes

        return wait


def product(source: Path, destination: Path) -> None:
    """Enrich a partition with the product."""
    settings = Settings(azure_openai_endpoint="http://127.0.0.1:9", azure_openai_deployment=DEPLOYMENT)
    job = prepare(
        str(source), str(destination), "body", prompt="Be brief.",
        model=ModelOptions(), output=OutputOptions(), settings=settings,
    )  # fmt: skip
    [partition] = discover(job.pattern).partitions
    run_partition(partition, job, TruncatedTexts())


def rewrite(source: Path, destination: Path) -> None:
    """Read and write all columns with pyarrow's defaults."""
    [path] = source.glob("*.parquet")
    with pq.ParquetFile(path) as file:
        schema = pa.schema([*file.schema_arrow, *_COLUMNS.fields])
        with pq.ParquetWriter(destination, schema, compression=_codec(file)) as writer:
            for index in range(file.num_row_groups):
                table = file.read_row_group(index)
                columns = [*table.columns, *_new_columns(table["body"]).columns]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def append(source: Path, destination: Path) -> None:
    """Read and write with the product's Parquet code; nothing is published."""
    [path] = source.glob("*.parquet")
    with path.open("rb") as file:
        reader = Reader(file, path.name)
        with Writer(reader.footer, _COLUMNS, "body", destination.parent, path.name) as writer:
            for table in reader.slices(["body"]):
                writer.write(_new_columns(table["body"]))
            writer.finish(file, {})


def columns(source: Path, destination: Path) -> None:
    """Read the text column and write the new columns with pyarrow alone."""
    [path] = source.glob("*.parquet")
    schema = pa.schema(_COLUMNS.fields)
    with (
        pq.ParquetFile(path, pre_buffer=False) as file,
        pq.ParquetWriter(destination, schema, compression=_codec(file)) as writer,
    ):
        for index in range(file.num_row_groups):
            writer.write_table(_new_columns(file.read_row_group(index, ["body"], use_threads=False)["body"]))


def _codec(file: pq.ParquetFile) -> str:
    return str(file.metadata.row_group(0).column(0).compression)


def _new_columns(texts: pa.ChunkedArray) -> pa.Table:
    summary = pc.utf8_slice_codeunits(texts, 0, _SUMMARY_CHARACTERS)
    values = ("ok", None, DEPLOYMENT, 500, 50)
    others = [
        pa.repeat(pa.scalar(value, field.type), len(texts))
        for value, field in zip(values, _COLUMNS.fields[1:], strict=True)
    ]
    return pa.Table.from_arrays([summary, *others], schema=pa.schema(_COLUMNS.fields))


WAYS = {"product": product, "rewrite": rewrite, "append": append, "columns": columns}
BASELINES = {"product": "rewrite", "append": "columns"}
"""The way that each way of the product is compared with."""


def main() -> None:
    """Measure all ways in turn, and print the figures."""
    parser = flags(__doc__)
    parser.add_argument("--mb", type=int, default=1000, help="of text, 10^6 bytes each")
    parser.add_argument("--text-bytes", type=int, default=2000)
    parser.add_argument("--row-group-rows", type=int, default=10_000)
    parser.add_argument("--codec", default="zstd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "SOURCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _measure(options.measure[0], Path(options.measure[1]))
        return
    figures = []
    with TemporaryDirectory() as folder:
        rows = options.mb * 1_000_000 // options.text_bytes
        file_mb = write(Path(folder), rows, options.text_bytes, options.row_group_rows, options.codec)
        for number in range(options.rounds):
            for way in WAYS:
                result = run_module("tests.bench.parquet_only", "--measure", way, folder)
                figures.append({"round": number, "way": way, "rows": rows} | result)
                note(figures[-1])
    title = f"{rows:,} rows, {options.mb:,} MB of text, {file_mb:,.0f} MB of Parquet ({options.codec})"
    print_table(title, [_row(figures, way) for way in WAYS], figures, options.json)


def write(folder: Path, rows: int, text_bytes: int, row_group_rows: int, codec: str) -> float:
    """Write one partition of random words; returns its size in MB."""
    chance, path = random.Random(7), folder / "part.parquet"
    letters = "etaoinshrdlucmfw"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) + " " for _ in range(5_000)]
    schema = pa.schema([("id", pa.int64()), ("body", pa.string())])
    with pq.ParquetWriter(path, schema, compression=codec) as writer:
        for start in range(0, rows, row_group_rows):
            ids = range(start, min(start + row_group_rows, rows))
            texts = ["".join(chance.choices(words, k=text_bytes // 6))[:text_bytes] for _ in ids]
            writer.write_table(pa.table([pa.array(ids), pa.array(texts)], schema))
    return path.stat().st_size / 1e6


def _measure(way: str, source: Path) -> None:
    with TemporaryDirectory() as folder:
        before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        WAYS[way](source, Path(folder, "out"))
        seconds, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb()}))


def _row(figures: Sequence[dict[str, float | str]], way: str) -> dict[str, str]:
    def of(name: str, one: str) -> float:
        return median(figures, name, way=one)

    baseline = BASELINES.get(way, way)
    more_s = of("cpu_s", way) - of("cpu_s", baseline)
    return {
        "way": way,
        "compared with": baseline,
        "seconds": f"{of('seconds', way):.1f}",
        "times": f"{of('seconds', way) / of('seconds', baseline):.2f}",
        "CPU s": f"{of('cpu_s', way):.1f}",
        "times CPU": f"{of('cpu_s', way) / of('cpu_s', baseline):.2f}",
        "CPU s more per 1,000 rows": f"{more_s / float(figures[0]['rows']) * 1000:.3f}",
        "peak MB": f"{of('peak_mb', way):,.0f}",
    }


if __name__ == "__main__":
    main()
