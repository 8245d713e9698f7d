"""Commit policy: when the ledger stores what it has in memory only."""

from dataclasses import dataclass

_SHORTEST_S, _LONGEST_S = 0.2, 1.0
"""Bounds of the wait for more replies. Longer makes fewer and larger segments; shorter loses fewer replies
when the process is killed. One second is the promise; below a fifth, a fast disk would get a segment for
every few replies."""
_REST = 10
"""The wait as a multiple of what the last commit took, so that a commit keeps a store busy for a tenth of the
time at most. Chosen on that reasoning, not measured."""
_LONGEST_BACKOFF_S = 10.0
"""Shorter adds load to a store that is failing; longer delays a commit after it recovers. Well below
``longest_unsaved_s``, so that several attempts are made before no more rows are requested."""


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """How long and how many replies may be in memory only.

    Attributes:
        commit_after_s: A reply is stored after this many seconds at the latest; when None, after ten times
            as long as the last commit took, between a fifth of a second and one second ...
        commit_rows: ... or as soon as a partition has this many. More makes fewer objects and larger losses
            in a kill; 256 are about a second's replies of one process, and 20,000 rows leave fewer than 70
            segments (``test_ledger``).
        first_backoff_s: The wait after a failed commit; it doubles, up to ten seconds.
        longest_unsaved_s: When a reply could not be stored for so long, no more rows are requested. Longer
            rides out longer outages of the store; shorter has fewer paid replies in memory only.
    """

    commit_after_s: float | None = None
    commit_rows: int = 256
    first_backoff_s: float = 0.5
    longest_unsaved_s: float = 30.0

    def wait_s(self, took_s: float) -> float:
        """Seconds until a reply that comes now is stored.

        Args:
            took_s: How long the last commit took.
        """
        if self.commit_after_s is not None:
            return self.commit_after_s
        return min(max(_REST * took_s, _SHORTEST_S), _LONGEST_S)

    def backoff_s(self, failures: int) -> float:
        """Seconds to wait after so many failed commits in a row."""
        return min(self.first_backoff_s * 2.0 ** (failures - 1), _LONGEST_BACKOFF_S)
