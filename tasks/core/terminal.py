"""Writes log lines and progress bars on a background thread, so that a terminal never blocks or fails a run.

A write blocks while the terminal is paused (Ctrl-S), or when the reader of a pipe does not read; it fails
when the terminal was closed. So text is put into a bounded queue. Text that does not fit is dropped, and the
dropped lines are counted. After the first failed write no more text is written.
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

_DRAIN_TIMEOUT_S = 2.0
"""How long the end of the program waits for a paused terminal. Shorter may lose the last lines on a slow
connection; longer delays the exit code. Chosen by reasoning: a terminal that reads takes milliseconds."""
_MAX_QUEUED_CHARACTERS = 2**16
"""Size of the queue. Larger keeps more lines of a longer pause and takes more memory. About 500 log lines,
more than a run writes in a minute; chosen by reasoning."""
_MAX_QUEUED_WITH_BAR = 2**12
"""Queued characters above which the progress bar is dropped and only log lines are queued. The bar is drawn
ten times a second with about 100 characters, so it would fill the queue of a paused terminal in a minute, and
log lines would be lost. A larger value loses more log lines, a smaller one more bars. Chosen by reasoning."""


class BackgroundStream:
    """A thread-safe text stream whose ``write`` never blocks and never fails.

    Args:
        stream: The stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self._stream = stream
        self._condition = threading.Condition()
        self._texts: deque[str] = deque()
        self._characters = self._dropped_lines = 0
        self._is_writing = self._is_stuck = self._has_failed = False

    def write(self, text: str) -> int:
        """Queue text, or drop it when the queue is full; returns the text's length in both cases."""
        if not text:
            return 0
        limit = _MAX_QUEUED_WITH_BAR if text.startswith("\r") else _MAX_QUEUED_CHARACTERS
        with self._condition:
            if self._has_failed or self._characters >= limit:
                self._dropped_lines += text.count("\n")
            else:
                self._texts.append(text)
                self._characters += len(text)
                self._start_writing()
        return len(text)

    def flush(self) -> None:
        """Do nothing, since this may not block; ``drain`` waits for the queue."""

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's file descriptor; rich and tqdm use it to find the width of the terminal."""
        return self._stream.fileno()

    def drain(self, timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        """Wait until the queue is written, at most ``timeout_s``; wait only once for a paused terminal."""
        with self._condition:
            if not self._is_stuck:
                self._is_stuck = not self._condition.wait_for(lambda: not self._is_writing, timeout_s)

    def _start_writing(self) -> None:
        if self._is_writing:
            return
        # The thread ends when the queue is empty, so that no thread outlives the run.
        self._is_writing = True
        try:
            threading.Thread(target=self._write_all, name="terminal", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down: blocking is harmless now
            self._is_writing = False
            self._send(self._next())

    def _write_all(self) -> None:
        while text := self._next():
            self._send(text)

    def _next(self) -> str:
        """Take all queued text; returns an empty string, and ends the thread, when the queue is empty."""
        with self._condition:
            text = "".join(self._texts)
            if text and self._dropped_lines:
                text += f"({self._dropped_lines} lines left out: the terminal or pipe did not read in time)\n"
            self._texts.clear()
            self._characters = self._dropped_lines = 0
            self._is_stuck = False
            if not text:
                self._is_writing = False
                self._condition.notify_all()
            return text

    def _send(self, text: str) -> None:
        try:
            _send(self._stream, text)
        except Exception:  # noqa: BLE001 - the terminal is closed, so the error cannot be shown
            self._has_failed = True


def _send(stream: TextIO, text: str) -> None:
    if not isinstance(stream, io.TextIOWrapper):
        # Text of a notebook's stream or an in-memory stream does not go to its file descriptor.
        stream.write(text)
        stream.flush()
        return
    descriptor = stream.fileno()
    # Bypasses the stream's buffer: its lock would be held while the write blocks, and at exit the interpreter
    # waits for that lock.
    left = memoryview(text.encode(stream.encoding, "backslashreplace"))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


class _LogLines:
    """A stream for log handlers that writes above the progress bar, if one is shown."""

    def __init__(self, stream: BackgroundStream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        from tqdm import tqdm  # noqa: PLC0415 - importing it takes a quarter of the time of --help

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
    """The background stream of a stream; always the same one."""
    if stream not in _streams:
        _streams[stream] = BackgroundStream(stream)
    return _streams[stream]


def progress_bar(total: int | None, title: str = "", *, is_shown: bool = True) -> "tqdm[Never]":
    """A progress bar for rows on stderr; a context manager. Drawing it never blocks."""
    from tqdm import tqdm  # noqa: PLC0415 - see above

    # For a stream other than stderr, tqdm reads the terminal's width only with dynamic_ncols.
    file = cast("TextIO", in_background(sys.stderr))
    return tqdm(total=total, unit=" rows", desc=title, file=file, dynamic_ncols=True, disable=not is_shown)


def drain() -> None:
    """Wait until all background streams are written, at most ``_DRAIN_TIMEOUT_S`` for each."""
    for stream in list(_streams.values()):
        stream.drain()


atexit.register(drain)


def log_in_background() -> None:
    """Redirect all log handlers of stdout and stderr to background streams.

    Handlers are changed in place and keep their formatters and levels; their lines appear above a progress
    bar. May be called again, for handlers that were added since.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream in {sys.stdout, sys.stderr}:
                lines = _LogLines(in_background(handler.stream))
                handler.setStream(lines)
                if console := getattr(handler, "console", None):
                    # Prefect's handlers print with a rich console.
                    console.file = lines
