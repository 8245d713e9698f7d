"""What the command line prints; a reader or terminal that has gone does not change how it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType

from tasks.core import terminal


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``_if_it_is_read``; rich would end the program."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


@contextmanager
def _if_it_is_read(stream: TextIO) -> Iterator[None]:
    """Print nothing more once the reader left, as ``head`` does, or the terminal vanished."""
    # Log lines come first.
    terminal.drain()
    try:
        yield
        stream.flush()
    except OSError:
        # What is buffered goes there when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(printed: RenderableType) -> None:
    """Print for people, as wide as the terminal."""
    with _if_it_is_read(sys.stdout):
        _Console().print(printed)


def write(text: str) -> None:
    """Print for programs: no colour, no line but the text's own."""
    with _if_it_is_read(sys.stdout):
        _Console().out(text, highlight=False)


def write_error(sentence: str) -> None:
    """Print why a command did not do all it was asked to."""
    with _if_it_is_read(sys.stderr):
        sys.stderr.write(f"{sentence}\n")
