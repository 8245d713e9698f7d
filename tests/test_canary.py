"""No secret anywhere, no row text outside data files: keys and a marker in the texts are searched everywhere.

Searched are Prefect's database, its and the worker's files and logs, outputs, ledger, reports and temporary
files, after runs that ended well and badly.
"""

import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.prefect_installation import BLOCKS_KEY, WORKERS_KEY, Installation
from tests.source_partitions import write_partition

MARKER = "canary-row-text-7d21"
KEYS = (WORKERS_KEY, BLOCKS_KEY)
FAULTS = ("quoting", "server-error", "content-filter", "bad-json", "html")


def forms(secret: str) -> list[bytes]:
    """A secret as it may stand in a file: plain, or in base64 at any offset."""
    plain = secret.encode()
    # What stands before and after it changes the first and the last characters.
    coded = [b64encode(bytes(offset) + plain)[offset + 1 : -4] for offset in range(3)]
    return [plain, *coded]


def is_in(secret: str, content: bytes) -> bool:
    return any(form in content for form in forms(secret))


def write_source(prefect: Installation, name: str, rows: int) -> dict[str, str]:
    """Texts whose marker stands behind what the endpoint repeats, some of them with a fault."""
    texts = [f"Row {row} is short. It has a second sentence. Then comes {MARKER}." for row in range(rows)]
    texts += [f"This row fails. It does. {MARKER} [[fault:{fault}]]" for fault in FAULTS]
    source = prefect.folder / "data" / name / "in"
    write_partition(LocalFileSystem(), f"{source}/part-0.parquet", pa.table({"body": texts}))
    return {"source": str(source), "destination": str(source.parent / "out"), "text_column": "body"}


def is_data(prefect: Installation, path: Path) -> bool:
    """A source, an output, or a partition that was being built."""
    hidden = any(part.startswith("_") for part in path.relative_to(prefect.folder).parts)
    return path.suffix in {".parquet", ".tmp"} and not hidden


def readable(path: Path) -> Iterator[bytes]:
    """A file's bytes; a Parquet file's values and footer entries too, since its pages are compressed."""
    yield path.read_bytes()
    with suppress(pa.ArrowInvalid), pq.ParquetFile(path) as file:
        yield repr(file.metadata.metadata).encode()
        yield repr(file.read().to_pylist()).encode()


def crash(run: str) -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PREFECT__FLOW_RUN_ID={run}".encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def after_bad_runs(prefect: Installation) -> Installation:
    """The installation after a run with failed rows, one with a wrong key, and one that was killed."""
    llm = prefect.endpoint
    llm.configure(api_key=BLOCKS_KEY, latency_ms=0)
    production = f"deployments/{prefect.deployment('production')['id']}/create_flow_run"
    parameters = {**write_source(prefect, "rows-fail", 20), "output": {"max_failed_fraction": 1}}
    run = prefect.api(production, {"parameters": {**parameters, "limits": {"max_attempts": 2}}})["id"]
    wrong_key = prefect.start(**write_source(prefect, "wrong-key", 20))
    assert "failed" in prefect.ended(run)["message"]
    assert prefect.ended(wrong_key)["type"] == "FAILED"
    llm.configure(api_key=None, latency_ms=1000)
    llm.reset()
    run = prefect.start(**write_source(prefect, "killed", 200), limits={"max_concurrent": 20})
    prefect.until(lambda: llm.stats().answered >= 40)
    crash(run)
    assert prefect.ended(run)["type"] == "CRASHED"
    # While a run goes, the worker has its environment in a file of its own.
    prefect.until(lambda: not list(prefect.folder.glob("tmp/prefect-workspace-attempt-*")))
    return prefect


def test_no_key_is_in_any_file_or_in_the_database(after_bad_runs: Installation) -> None:
    database = after_bad_runs.database()
    assert b"rows-fail" in database
    assert not [key for key in KEYS if is_in(key, database)]
    files = [path for path in after_bad_runs.folder.rglob("*") if path.is_file()]
    found = [(path, key) for path in files for part in readable(path) for key in KEYS if is_in(key, part)]
    assert found == []


def test_no_row_text_is_outside_of_data_files(after_bad_runs: Installation) -> None:
    assert not is_in(MARKER, after_bad_runs.database())
    found, ledgers = set(), 0
    for path in (path for path in after_bad_runs.folder.rglob("*") if path.is_file()):
        ledgers += "_ledger" in path.parts
        if any(is_in(MARKER, part) for part in readable(path)):
            found.add(path)
    assert ledgers
    assert [path for path in found if not is_data(after_bad_runs, path)] == []
    assert any(path.match("killed/in/*.parquet") for path in found)
    outputs = [path for path in found if path.match("rows-fail/out/*.parquet")]
    assert outputs
    for path in outputs:
        assert MARKER not in repr(pq.read_metadata(path).metadata)
