"""Text for a terminal, written on a thread of its own: a terminal that is paused or gone holds up no work.

A terminal blocks whoever writes to it while it is paused (Ctrl-S), as a pipe does whose reader does not read;
one that has vanished answers every write with an error. So log lines and progress bars are queued here. What
exceeds a bounded queue is dropped and counted; after the first error nothing more is written.
"""

import atexit
import io
import logging
import os
import select
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Never, TextIO, cast

if TYPE_CHECKING:
    from tqdm import tqdm

_PATIENCE_S = 2.0
_CHARACTERS_WAITING = 2**16
"""Some 500 log lines: more than a run writes in a minute, little memory."""
_BAR_CHARACTERS_WAITING = 2**12
"""A progress bar draws ten times a second; while that much waits, log lines alone are queued."""


class BackgroundStream:
    """A text stream whose ``write`` neither blocks nor fails; from any thread.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self._stream = stream
        self._changed = threading.Condition()
        self._texts: deque[str] = deque()
        self._characters = self._dropped_lines = 0
        self._is_writing = self._is_stuck = self._is_gone = False

    def write(self, text: str) -> int:
        """Queue text, or drop it when too much waits already; returns its length in either case."""
        if not text:
            return 0
        room = _BAR_CHARACTERS_WAITING if text.startswith("\r") else _CHARACTERS_WAITING
        with self._changed:
            if self._is_gone or self._characters >= room:
                self._dropped_lines += text.count("\n")
            else:
                self._texts.append(text)
                self._characters += len(text)
                self._start_writing()
        return len(text)

    def flush(self) -> None:
        """Do nothing; ``drain`` waits."""

    def isatty(self) -> bool:
        """Whether the text goes to a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor, for those who ask how wide the terminal is."""
        return self._stream.fileno()

    def drain(self, patience_s: float = _PATIENCE_S) -> None:
        """Wait until everything is written, but not for long, and once for a terminal that stays paused."""
        with self._changed:
            if not self._is_stuck:
                self._is_stuck = not self._changed.wait_for(lambda: not self._is_writing, patience_s)

    def _start_writing(self) -> None:
        if self._is_writing:
            return
        # A thread for as long as there is something to write, so that none is left when the work is done.
        self._is_writing = True
        try:
            threading.Thread(target=self._write_all, name="terminal", daemon=True).start()
        except RuntimeError:  # the interpreter ends and starts no more threads, so no work is left to hold up
            self._is_writing = False
            self._send(self._next())

    def _write_all(self) -> None:
        while text := self._next():
            self._send(text)

    def _next(self) -> str:
        """All that waits, once; nothing ends the writing."""
        with self._changed:
            text = "".join(self._texts)
            if text and self._dropped_lines:
                text += f"({self._dropped_lines} lines left out: they were not read in time)\n"
            self._texts.clear()
            self._characters = self._dropped_lines = 0
            self._is_stuck = False
            if not text:
                self._is_writing = False
                self._changed.notify_all()
            return text

    def _send(self, text: str) -> None:
        try:
            _send(self._stream, text)
        except Exception:  # noqa: BLE001 - vanished or closed: there is no place left to report it to
            self._is_gone = True


def _send(stream: TextIO, text: str) -> None:
    if not isinstance(stream, io.TextIOWrapper):
        # A notebook's, or one in memory: its descriptor, if there is one, leads elsewhere.
        stream.write(text)
        stream.flush()
        return
    number = stream.fileno()
    # Past the stream's own buffer: its lock would be held meanwhile, and the interpreter needs it to end.
    left = memoryview(text.encode(stream.encoding, "backslashreplace"))
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:
            select.select([], [number], [])


class _LogLines:
    """Where log lines are written: above the progress bar, if there is one."""

    def __init__(self, stream: BackgroundStream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        from tqdm import tqdm  # noqa: PLC0415 - a quarter of the time that help takes

        tqdm.write(text, file=cast("TextIO", self._stream), end="")
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding


_streams: dict[TextIO, BackgroundStream] = {}


def in_background(stream: TextIO) -> BackgroundStream:
    """The one background stream that writes to a stream."""
    if stream not in _streams:
        _streams[stream] = BackgroundStream(stream)
    return _streams[stream]


def progress_bar(total: int | None, title: str = "", *, is_shown: bool = True) -> "tqdm[Never]":
    """A bar on stderr that counts rows; a context manager. Drawing it never blocks."""
    from tqdm import tqdm  # noqa: PLC0415 - see above

    # With a stream that is not stderr itself, tqdm finds out the terminal's width only when it is dynamic.
    file = cast("TextIO", in_background(sys.stderr))
    return tqdm(total=total, unit=" rows", desc=title, file=file, dynamic_ncols=True, disable=not is_shown)


def drain() -> None:
    """Wait, not for long, until what was written to all background streams is shown."""
    for stream in list(_streams.values()):
        stream.drain()


atexit.register(drain)


def log_in_background() -> None:
    """Have every log handler that writes to stdout or stderr do so in the background from now on.

    Handlers are changed in place and keep their formatters and levels; what they write appears above a
    progress bar. Safe to call again.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream in {sys.stdout, sys.stderr}:
                lines = _LogLines(in_background(handler.stream))
                handler.setStream(lines)
                if console := getattr(handler, "console", None):
                    # Prefect's handlers print through rich.
                    console.file = lines
