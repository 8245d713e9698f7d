"""Full disks: of temporary files, and of the destination."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tasks.core.errors import StorageError
from tests.conftest import Serve
from tests.core_runs import names, read, run, tally, write
from tests.prefectserver import ROOT

ROWS = 100
# So long that the output does not fit on the disk, while the ledger does, which has no texts.
TEXTS = [f"This is row {n}. {' '.join(f'{n * k * k:x}' for k in range(3000))}" for n in range(ROWS)]
DISK_KB = 256


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """Mount a small disk at a folder; yields a function that enlarges it."""
    folder.mkdir()

    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def enlarge() -> None:
        assert mount("remount,size=64m")

    if not mount(f"size={DISK_KB}k"):
        pytest.skip("only who may mount can make a small disk")
    try:
        yield enlarge
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - where it is differs


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    with ExitStack() as stack:
        yield tmp_path / "disk", stack.enter_context(small_disk(tmp_path / "disk"))


def assert_made_whole(folder: str, out: str, requests: Callable[[], int]) -> None:
    """Assert that another run finishes the partition without a request."""
    counted = tally(f"{folder}/in", out)
    assert (counted.ok, counted.reused, requests()) == (ROWS, ROWS, ROWS)
    assert read(out)["summary"].to_pylist() == [f"This is row {n}." for n in range(ROWS)]


def test_a_full_disk_for_temporary_files_loses_no_reply(
    endpoint: Serve,
    bucket: str,
    disk: tuple[Path, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm, (folder, enlarge) = endpoint(), disk
    monkeypatch.setenv("TMPDIR", str(folder))
    write(f"{bucket}/in", TEXTS)
    (folder / "others").write_bytes(bytes(DISK_KB * 1024))
    with pytest.raises(StorageError, match="set TMPDIR to a folder with more space"):
        run(f"{bucket}/in", f"{bucket}/out")
    assert "part.parquet" not in names(f"{bucket}/out")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["others"]
    enlarge()
    assert_made_whole(bucket, f"{bucket}/out", lambda: llm.stats().requests)


@pytest.mark.parametrize("free_kb", [DISK_KB, 0])
def test_a_full_disk_of_the_destination_loses_no_reply(
    endpoint: Serve,
    tmp_path: Path,
    disk: tuple[Path, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    free_kb: int,
) -> None:
    llm, (folder, enlarge) = endpoint(), disk
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    write(f"{tmp_path}/in", TEXTS)
    if not free_kb:
        (folder / "others").write_bytes(bytes((DISK_KB - 16) * 1024))
    with pytest.raises(StorageError):
        run(f"{tmp_path}/in", f"{folder}/out")
    assert "part.parquet" not in names(f"{folder}/out")
    assert llm.stats().requests == ROWS
    enlarge()
    assert_made_whole(str(tmp_path), f"{folder}/out", lambda: llm.stats().requests)


LIMITED = """
import resource, sys
from tests.core_runs import run

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
run(*sys.argv[2:4])
"""


def test_a_file_size_limit_loses_no_reply(endpoint: Serve, tmp_path: Path) -> None:
    llm = endpoint()
    write(f"{tmp_path}/in", TEXTS)
    command = [sys.executable, "-c", LIMITED, f"{DISK_KB * 1024}", f"{tmp_path}/in", f"{tmp_path}/out"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "File too large" in ended.stderr
    assert "free space there" in ended.stderr
    assert "part.parquet" not in names(f"{tmp_path}/out")
    assert_made_whole(str(tmp_path), f"{tmp_path}/out", lambda: llm.stats().requests)
