"""Prints for the command line; a closed pipe or terminal does not change the exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType

from tasks.core import terminal


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``_ignoring_closed``; rich would end the program."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


@contextmanager
def _ignoring_closed(stream: TextIO) -> Iterator[None]:
    """Ignore a closed pipe, such as that of ``head``, or a closed terminal."""
    # Log lines come first.
    terminal.drain()
    try:
        yield
        stream.flush()
    except OSError:
        # The interpreter flushes its buffers there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(printed: RenderableType) -> None:
    """Print for people, as wide as the terminal."""
    with _ignoring_closed(sys.stdout):
        _Console().print(printed)


def write(text: str) -> None:
    """Print for programs: no colour, no line breaks added."""
    with _ignoring_closed(sys.stdout):
        _Console().out(text, highlight=False)


def write_error(sentence: str) -> None:
    """Print why a command failed."""
    with _ignoring_closed(sys.stderr):
        sys.stderr.write(f"{sentence}\n")
