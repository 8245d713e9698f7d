"""A run that holds a destination's lease, in a process of its own that can be killed."""

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
    """A process that tries to take the lease at its next line of input, and holds it until it is killed."""
    command = [sys.executable, "-m", "tests.lease_process", url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert says(child) == "ready"
            yield child
        finally:
            child.kill()


def says(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("take\n")
    child.stdin.flush()


def _main(url: str) -> None:
    place = locate(url)
    stored_files.list_files(place, place.root)
    _say("ready")
    sys.stdin.readline()
    try:
        with Lease(place):
            _say("taken")
            threading.Event().wait()
    except LeaseError:
        _say("refused")


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
