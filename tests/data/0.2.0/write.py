"""Writes `source`, `destination` and `paid.json` beside this file; see README.md.

Runs with the code of version 0.2.0 alone, so linters and type checkers of later versions leave it out.
"""

import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.__main__ import main
from tasks.core.job import Job, prepare
from tasks.core.model import Status
from tasks.core.options import ModelOptions, OutputOptions
from tasks.core.paid import outputs
from tasks.core.paid.known import Known
from tasks.core.paid.shelf import Shelf
from tasks.core.settings import Settings
from tasks.local.config import EndpointConfig
from tasks.local.endpoint import serve
from tests.s3server import running_s3_server

HERE = Path(__file__).parent
RUN: dict[str, Any] = json.loads((HERE / "run.json").read_text())
BUCKET: str = RUN["bucket"]
RAW, SOURCE, DESTINATION = (f"s3://{BUCKET}/{name}" for name in ("raw", "source", "destination"))
OK, ROWS_FAILED, BUDGET_SPENT = 0, 1, 3

FINISHED, ANSWERED, ENRICHED = (
    f"day=1/{name}.parquet" for name in ("finished", "answered", "enriched-before")
)
FAILED, HEALING, CHANGED, INTERRUPTED = (
    f"day=2/{name}.parquet"
    for name in ("failed-rows", "healing-interrupted", "source-changed", "interrupted")
)

ORPHANED = "day=1/orphaned.parquet"
NO_SUMMARY = ["content-filter", "filtered-reply", "length", "refusal", "too-long"]


def texts(about: str, rows: int) -> list[str | None]:
    return [f"Row {row} is about {about}. It has more to say." for row in range(rows)]


def awkward(about: str) -> list[str | None]:
    """Texts whose key depends on the encoding, on white space, and on braces being left alone."""
    return [
        f"Braces {{text}}, {{{{x}}}} and {{0}} are about {about}. The rest follows.",
        f'[{{"role": "system", "content": "You are {about}."}}] is data. The rest follows.',
        f"A null\x00character, \N{LATIN SMALL LETTER E WITH ACUTE} and \N{PILE OF POO} are {about}. The rest.",
        f"e\N{COMBINING ACUTE ACCENT} is not composed and about {about}. The rest follows.",
        f"  Spaces about {about} are kept.  \r\n\tTabs too.\n",
    ]


def faulty(about: str) -> list[str | None]:
    """A text per kind of final answer that is no summary."""
    return [f"About {about}: this text meets {kind}. [[fault:{kind}]] More." for kind in NO_SUMMARY]


def table(body: list[str | None], kind: pa.DataType) -> pa.Table:
    rows = range(len(body))
    return pa.table({"id": pa.array(rows, pa.int64()), "body": pa.array(body, pa.string()).cast(kind)})


def nested(body: list[str | None]) -> pa.Table:
    point = pa.struct([("x", pa.float64()), ("labels", pa.list_(pa.struct([("name", pa.string())])))])
    rows = range(len(body))
    return pa.table(
        {
            "id": pa.array(rows, pa.int64()),
            "tags": pa.array([None if row % 7 == 3 else ["a", None, str(row)] for row in rows]),
            "body": pa.array(body, pa.string()).dictionary_encode(),
            "point": pa.array(
                [{"x": row / 2, "labels": [{"name": str(row)}] * (row % 3)} for row in rows], point
            ),
            "counts": pa.array([[("k", row)] for row in rows], pa.map_(pa.string(), pa.int32())),
        }
    ).replace_schema_metadata({"owner": "tests"})


def encode(rows: pa.Table, row_group_size: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, row_group_size=row_group_size, **options)
    return buffer.getvalue()


def sources() -> dict[str, bytes]:
    """The source partitions by key, `ENRICHED` apart."""
    finished = [*texts("a finished partition", 50), None, "", " \t", *texts("a finished partition", 7)]
    interrupted = [
        None,
        *awkward("an interrupted run"),
        *faulty("an interrupted run"),
        *texts("an interrupted run", 30),
    ]
    return {
        FINISHED: encode(nested(finished), 25, compression="zstd"),
        ANSWERED: encode(table([*faulty("answers"), *texts("answers", 5)], pa.string()), 100),
        FAILED: encode(table([*awkward("failures"), *texts("failures", 35), None], pa.large_string()), 15),
        HEALING: encode(table(texts("healing", 30), pa.string()), 100, compression="gzip"),
        CHANGED: changed(),
        INTERRUPTED: encode(table(interrupted, pa.dictionary(pa.int32(), pa.string())), 15),
    }


def changed(*others: str) -> bytes:
    """A partition whose first rows are these; they may be others after it was enriched."""
    body = [*others, *texts("a change", 20)[len(others) :], *faulty("a change"), *awkward("a change")]
    return encode(table(body, pa.string()), 12)


def run(source: str, destination: str, *flags: str, expected: int = OK) -> None:
    asked = ["--text-column", RUN["text_column"], "--prompt", RUN["prompt"]]
    model = [f"--temperature={RUN['temperature']}", f"--max-output-tokens={RUN['max_output_tokens']}"]
    limits = ["--max-concurrent=1", "--max-attempts=1", "--max-failed-fraction=1", "--no-prefect"]
    code = main(["run", source, destination, *asked, *model, *limits, *flags])
    if code != expected:
        sys.exit(f"exit code {code} instead of {expected}")


def job() -> Job:
    return prepare(
        SOURCE,
        DESTINATION,
        RUN["text_column"],
        prompt=RUN["prompt"],
        model=ModelOptions(temperature=RUN["temperature"], max_output_tokens=RUN["max_output_tokens"]),
        output=OutputOptions(),
        settings=Settings.from_environment(),
    )


def paid(fs: Any, key: str, asked: Job) -> list[list[Any] | None]:
    """The values of each row's summary columns; None for a row that is still to be asked."""
    body = pq.ParquetFile(io.BytesIO(fs.cat_file(f"{SOURCE}/{key}"))).read()[RUN["text_column"]].to_pylist()
    known = Known()
    earlier = outputs.paid_rows(outputs.find(key, asked), key, asked)
    known.add(earlier, *Shelf(asked.destination, key, asked.request.fingerprint).read())
    keys = asked.request.row_keys(body)
    return [
        [None, Status.EMPTY.value, None, None, None, None]
        if row_key is None
        else one
        and [one.text, one.status.value, one.error, one.model, one.prompt_tokens, one.completion_tokens]
        for row_key, one in zip(keys, known.look_up(keys), strict=True)
    ]


def anonymous(lease: bytes) -> bytes:
    """A released lease without the names of the machine that wrote it."""
    claim = json.loads(lease)
    claim["owner"].update(host="some-host", space="some-boot pid:[1]")
    return json.dumps(claim, indent=1).encode()


def save(fs: Any) -> None:
    for name in ("source", "destination"):
        shutil.rmtree(HERE / name, ignore_errors=True)
        for path in fs.find(f"{BUCKET}/{name}"):
            target = HERE / path.removeprefix(f"{BUCKET}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(anonymous(fs.cat_file(path)) if "/lease-" in path else fs.cat_file(path))
    asked = job()
    keys = [path.removeprefix(f"{BUCKET}/source/") for path in fs.find(f"{BUCKET}/source")]
    lines = {key: ",\n".join(json.dumps(row) for row in paid(fs, key, asked)) for key in sorted(keys)}
    partitions = ",\n".join(f"{json.dumps(key)}: [\n{rows}\n]" for key, rows in lines.items())
    (HERE / "paid.json").write_text(f"{{\n{partitions}\n}}\n")


def write(fs: Any, llm: Any) -> None:
    fs.mkdir(BUCKET)
    before = table(texts("a title", 12), pa.string())
    fs.pipe_file(f"{RAW}/{ENRICHED}", encode(before, 5))
    run(RAW, SOURCE, "--column-prefix=title")
    for folder in ("_ledger", "_reports"):
        fs.rm(f"{SOURCE}/{folder}", recursive=True)
    for key, data in sources().items():
        fs.pipe_file(f"{SOURCE}/{key}", data)
    fs.pipe_file(f"{SOURCE}/{ORPHANED}", encode(table(texts("a removed partition", 8), pa.string()), 100))
    run(SOURCE, DESTINATION, "--only=day=1/*")
    fs.rm_file(f"{SOURCE}/{ORPHANED}")
    run(SOURCE, DESTINATION, f"--only={CHANGED}")
    fs.pipe_file(f"{SOURCE}/{CHANGED}", changed("A first new row. More.", "A second new row. More."))
    llm.configure(fault_rate=0.3)
    for key in (FAILED, HEALING):
        run(SOURCE, DESTINATION, f"--only={key}", expected=ROWS_FAILED)
    # So slow that every reply is stored in a segment of its own, and segments are merged.
    llm.configure(fault_rate=0.0, latency_ms=400.0)
    run(SOURCE, DESTINATION, f"--only={HEALING}", "--max-requests=3", expected=BUDGET_SPENT)
    run(SOURCE, DESTINATION, f"--only={INTERRUPTED}", "--max-requests=22", expected=BUDGET_SPENT)


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as folder,
        running_s3_server(Path(folder)) as server,
        serve(EndpointConfig()) as endpoint,
    ):
        os.environ.update(server.environment)
        os.environ.update(
            AZURE_OPENAI_ENDPOINT=endpoint.url,
            AZURE_OPENAI_API_KEY="test-key",
            AZURE_OPENAI_DEPLOYMENT=RUN["deployment"],
            AZURE_OPENAI_MODEL=RUN["model"],
            OPENAI_API_VERSION=RUN["api_version"],
        )
        client = server.filesystem()
        write(client, endpoint)
        save(client)
