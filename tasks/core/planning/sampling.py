"""What a sample of rows tells of all of them: which rows are in it, and how far the total may be off.

Pure. A row's size in bytes is known of every row, its tokens of those in the sample only; so what is
estimated is tokens per byte. Which rows are in the sample is decided by their keys, which are hashes: that is
a random choice, and the same one at every plan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STANDARD_ERRORS = 3.0
FEWEST_ROWS = 32
"""Rows of a sample at least; of fewer, the error could not be told."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number nobody knows yet: what it is likely to be, and between which it is."""

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number estimated from a sample; estimates of separate samples add up with ``+``.

    Attributes:
        likely: The number.
        variance: Of its error; 0 when all rows were in the sample.
    """

    likely: float = 0.0
    variance: float = 0.0

    @property
    def range(self) -> Range:
        """The number with three standard errors to both sides."""
        error = _STANDARD_ERRORS * math.sqrt(self.variance)
        return Range(max(self.likely - error, 0.0), self.likely, self.likely + error)

    def __add__(self, other: "Estimate") -> "Estimate":
        """Both together."""
        return Estimate(self.likely + other.likely, self.variance + other.variance)


class Sample:
    """The rows with the smallest keys of all that were offered; equal rows are one.

    Args:
        rows: How many at most.
        size_bytes: What their texts may take; ``FEWEST_ROWS`` are kept whatever they take.
    """

    def __init__(self, rows: int, size_bytes: int) -> None:
        self._rows = rows
        self._size_bytes = size_bytes
        self._texts: dict[bytes, str] = {}
        self._held_bytes = 0
        # Above every key, as long as there is room for every row.
        self._limit = b"\xff" * 17

    def offer(self, key: bytes, text: str, size_bytes: int) -> None:
        """Consider a row."""
        if key >= self._limit or key in self._texts:
            return
        self._texts[key] = text
        self._held_bytes += size_bytes
        if len(self._texts) >= 2 * self._rows or self._held_bytes >= 2 * self._size_bytes:
            self._trim()

    def texts(self) -> dict[bytes, str]:
        """The texts of the rows in the sample, by key."""
        self._trim()
        return self._texts

    def _trim(self) -> None:
        kept: dict[bytes, str] = {}
        held_bytes = 0
        for key in sorted(self._texts)[: self._rows]:
            size_bytes = len(self._texts[key].encode("utf-8", "surrogatepass"))
            if len(kept) >= FEWEST_ROWS and held_bytes + size_bytes > self._size_bytes:
                break
            kept[key] = self._texts[key]
            held_bytes += size_bytes
        if len(kept) < len(self._texts):
            self._limit = max(kept, default=b"")
        self._texts, self._held_bytes = kept, held_bytes


def tokens_of_all(rows: int, size_bytes: int, sample: Sequence[tuple[int, int]]) -> Estimate:
    """Tokens of rows of which some were counted: a ratio estimate, with the error a sample of its size has.

    Args:
        rows: How many rows there are.
        size_bytes: Bytes of all of them together.
        sample: Bytes and tokens of the rows that were counted.
    """
    counted_bytes = sum(size for size, _ in sample)
    if not counted_bytes:
        return Estimate()
    ratio = sum(tokens for _, tokens in sample) / counted_bytes
    left_out = 1.0 - len(sample) / rows
    if left_out <= 0.0 or len(sample) < 2:  # noqa: PLR2004 - of one nobody knows how far others are from it
        return Estimate(ratio * size_bytes)
    spread = sum((tokens - ratio * size) ** 2 for size, tokens in sample) / (len(sample) - 1)
    return Estimate(ratio * size_bytes, rows**2 * left_out * spread / len(sample))
