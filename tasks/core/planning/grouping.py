"""Which partitions share a task, and how many are open together.

One task per partition is the rule. Each task costs Prefect's server a few requests and its page a line, so of
thousands of partitions the small ones that follow each other share one. Pure: names and sizes in, groups out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.escaping import printable
from tasks.core.model import Partition, Plan
from tasks.core.options import LimitOptions

_OVERHEAD_BYTES = 2**16
"""What opening and publishing a partition costs, in bytes of a partition that take as long."""

_LEAST_OPEN, _MOST_OPEN = 4, 64
_WINDOWS_HELD = 4
"""Rows of open partitions, in windows; with 2, a hundred partitions of 20 rows left it a quarter empty."""


@dataclass(frozen=True, slots=True)
class Group:
    """Partitions that one task works on, one after the other; in the order of their keys."""

    partitions: tuple[Partition, ...]

    def __str__(self) -> str:
        """The range, for the task's name."""
        first, last = (printable(one.key) for one in (self.partitions[0], self.partitions[-1]))
        count = len(self.partitions)
        return first if count == 1 else f"{first} .. {last} ({count})"


def group(partitions: Sequence[Partition], max_groups: int) -> tuple[Group, ...]:
    """Groups of partitions that follow each other, at most so many, each about as much work.

    Args:
        partitions: What there is to do, in order.
        max_groups: Up to as many partitions, each is a group of its own.
    """
    if len(partitions) <= max_groups:
        return tuple(Group((partition,)) for partition in partitions)
    works = [partition.size_bytes + _OVERHEAD_BYTES for partition in partitions]
    shares: dict[int, list[Partition]] = {}
    done, total = 0, sum(works)
    for partition, work in zip(partitions, works, strict=True):
        # Where its middle lies on the whole, cut into equal shares; so a large one tends to be alone.
        share = (2 * done + work) * max_groups // (2 * total)
        shares.setdefault(share, []).append(partition)
        done += work
    return tuple(Group(tuple(members)) for members in shares.values())


def open_at_once(plan: Plan, limits: LimitOptions) -> int:
    """How many partitions are open together: as few as keep the window full, unless a person chose.

    The rows of a small one start together, and most have ended long before its slowest: others have to fill
    its part of the window meanwhile, and while it is published.
    """
    if limits.max_open_partitions is not None:
        return limits.max_open_partitions
    rows_in_each = max(plan.rows / max(len(plan.partitions), 1), 1.0)
    return min(max(math.ceil(_WINDOWS_HELD * limits.max_concurrent / rows_in_each), _LEAST_OPEN), _MOST_OPEN)
