"""What the command line tells on stdout."""

import os
import sys

from rich.console import Console, RenderableType


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The reader left, as `head` does: nobody wants the rest, and the run ends as it would have."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(told: RenderableType) -> None:
    """Print for people, as wide as the terminal."""
    _Console().print(told)


def write(text: str) -> None:
    """Print for programs: no colour, no line but the text's own."""
    _Console().out(text, highlight=False)
