"""When the ledger stores what it holds in memory: soon, and no more often than the store bears."""

from dataclasses import dataclass

_SHORTEST_S, _LONGEST_S = 0.2, 1.0
_REST = 10
_LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """How much may be in memory only.

    Attributes:
        commit_after_s: A reply is stored after this many seconds at the latest; when None, after ten times as
            long as the store took last, between a fifth of a second and a whole one ...
        commit_rows: ... or as soon as a partition has this many.
        first_backoff_s: The wait before a store that failed is tried again; it doubles, up to ten seconds.
        longest_unsaved_s: When a reply could not be stored for so long, no more are asked for.
    """

    commit_after_s: float | None = None
    commit_rows: int = 256
    first_backoff_s: float = 0.5
    longest_unsaved_s: float = 30.0

    def wait_s(self, took_s: float) -> float:
        """Seconds until a reply that comes now is stored.

        Args:
            took_s: What the store took last; ever sooner costs ever more requests to it.
        """
        if self.commit_after_s is not None:
            return self.commit_after_s
        return min(max(_REST * took_s, _SHORTEST_S), _LONGEST_S)

    def backoff_s(self, failures: int) -> float:
        """Seconds to wait after so many failures of the store in a row."""
        return min(self.first_backoff_s * 2.0 ** (failures - 1), _LONGEST_BACKOFF_S)
