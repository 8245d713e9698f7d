"""How often which size occurred, in buckets fixed beforehand; so memory does not grow with the rows."""

from bisect import bisect_left
from dataclasses import dataclass

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OpenTelemetry's buckets for ``gen_ai.client.operation.duration``."""
TOKENS = tuple(float(2**power) for power in range(18))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket.

    Attributes:
        bounds: The upper bound of each bucket but the last, which has none; each belongs to its bucket.
        counts: How often a value fell into each bucket, one more than there are bounds; or nothing yet.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """All values counted."""
        return sum(self.counts)

    def quantile(self, part: float) -> float | None:
        """About the value that this part of all values does not exceed; None without values.

        Within a bucket values are taken to lie evenly; beyond the last bound, on it.
        """
        left, low = part * self.total, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and left <= count:
                return low + (bound - low) * left / count
            left, low = left - count, bound
        return low if self.total else None


@dataclass(frozen=True, slots=True)
class Histograms:
    """What answered requests took: seconds, prompt tokens, completion tokens."""

    latency_s: Histogram = Histogram(SECONDS)
    prompt_tokens: Histogram = Histogram(TOKENS)
    completion_tokens: Histogram = Histogram(TOKENS)


class Counting:
    """Counts values into buckets.

    Args:
        bounds: See ``Histogram``.
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
