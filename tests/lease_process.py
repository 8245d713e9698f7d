"""A process that takes and holds a destination's lease, and that tests can kill."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import LeaseError
from tasks.core.lease.lease import Lease
from tasks.core.storage import stored_files
from tasks.core.storage.location import locate

ROOT = Path(__file__).parent.parent


@contextmanager
def leasing(url: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that takes the lease when it reads a line, and holds it until it is killed."""
    command = [sys.executable, "-m", "tests.lease_process", url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert read_line(child) == "ready"
            yield child
        finally:
            child.kill()


def read_line(child: subprocess.Popen[str]) -> str:
    """The next line that the process prints: ready, taken or refused."""
    assert child.stdout
    return child.stdout.readline().strip()


def request_lease(child: subprocess.Popen[str]) -> None:
    """Let the process take the lease now."""
    assert child.stdin
    child.stdin.write("take\n")
    child.stdin.flush()


def _main(url: str) -> None:
    place = locate(url)
    stored_files.list_files(place, place.root)
    _print("ready")
    sys.stdin.readline()
    try:
        with Lease(place):
            _print("taken")
            threading.Event().wait()
    except LeaseError:
        _print("refused")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
