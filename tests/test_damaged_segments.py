"""Runs with damaged segments of the ledger: only their rows are requested again."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.__main__ import main
from tasks.core.storage.location import locate
from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import names, read, segments_in, write

ROWS, WINDOW = 300, 10


def flip(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


def tear(data: bytes) -> bytes:
    return data[:-100]


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("tasks.core.ledger.segment_store")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def run(folder: str, *flags: str) -> int:
    return main(
        [
            *("run", f"{folder}/in", f"{folder}/out", "--text-column", "body"),
            *("--max-concurrent", f"{WINDOW}", *flags),
        ]
    )


def segments(folder: str) -> list[str]:
    return [name for name in names(f"{folder}/out") if name.endswith(".segment")]


def sizes(folder: str) -> int:
    return sum(map(len, segments_in(f"{folder}/out")))


@pytest.mark.parametrize(("store", "damage"), [("local", flip), ("s3", tear)])
def test_only_the_rows_of_a_damaged_segment_are_requested_again_and_logged(
    request: pytest.FixtureRequest,
    endpoint: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    store: str,
    damage: Callable[[bytes], bytes],
) -> None:
    llm: Endpoint = endpoint(latency_ms=10)
    folder = str(tmp_path) if store == "local" else str(request.getfixturevalue("bucket"))
    write(f"{folder}/in", [f"This is row {n}. And more." for n in range(ROWS)])
    for _ in range(2):
        assert run(folder, "--max-requests", "100") == 3
    assert sizes(folder) == llm.stats().paid == 200
    place, (victim, *others) = locate(f"{folder}/out"), segments(folder)
    assert others
    place.fs.pipe_file(place.path(victim), damage(place.fs.cat_file(place.path(victim))))
    kept = sizes(folder)
    assert 0 < kept < 200
    # Prefect removes the handlers of the root logger.
    with logging_to(caplog.handler):
        assert run(folder) == 0
    assert f"{victim} is left out, its rows are asked again" in caplog.text
    assert llm.stats().requests == ROWS + 200 - kept
    assert read(f"{folder}/out")["summary"].to_pylist() == [f"This is row {n}." for n in range(ROWS)]
    assert segments(folder) == []
