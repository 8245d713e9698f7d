"""Histograms with fixed buckets, so that memory does not grow with the number of rows."""

from bisect import bisect_left
from dataclasses import dataclass

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Upper bounds of latency buckets: OpenTelemetry's for ``gen_ai.client.operation.duration``."""
TOKENS = tuple(float(2**power) for power in range(18))
"""Upper bounds of token buckets: 1 to 131,072, each twice the previous one, up to the context length of most
models. A quantile is at most a factor of 2 off; more buckets would make the chart unreadable. Not
measured."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket.

    Attributes:
        bounds: Upper bounds of all buckets except the last, which has none; a bound belongs to its bucket.
        counts: Number of values in each bucket, one more than there are bounds; empty if nothing was counted.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Number of values counted."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float | None:
        """The approximate value that this fraction of all values does not exceed; None without values.

        Values are assumed to be spread evenly within a bucket; those above the last bound count as equal to
        it.
        """
        left, low = fraction * self.total, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and left <= count:
                return low + (bound - low) * left / count
            left, low = left - count, bound
        return low if self.total else None


@dataclass(frozen=True, slots=True)
class Histograms:
    """Latency, prompt tokens and completion tokens of the answered requests."""

    latency_s: Histogram = Histogram(SECONDS)
    prompt_tokens: Histogram = Histogram(TOKENS)
    completion_tokens: Histogram = Histogram(TOKENS)


class HistogramBuilder:
    """Builds a histogram value by value.

    Args:
        bounds: Upper bounds of the buckets, as in ``Histogram``.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1

    @property
    def histogram(self) -> Histogram:
        """The counts so far."""
        return Histogram(self._bounds, tuple(self._counts))
