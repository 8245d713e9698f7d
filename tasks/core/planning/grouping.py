"""Groups small partitions into tasks, and decides how many partitions are open at once.

Normally each partition has its own Prefect task. Every task costs requests to Prefect's server and a line on
its page, so when there are thousands of partitions, small ones with neighbouring keys share a task. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.escaping import printable
from tasks.core.model import Partition, Plan
from tasks.core.options import LimitOptions

_OVERHEAD_BYTES = 2**16
"""Cost of opening and publishing a partition, expressed as bytes of a partition.

A larger value balances groups by their number of partitions, a smaller one by their size. Not measured: 64
KiB was chosen because requests take most of the time, so that only the order of magnitude matters."""

_MIN_OPEN, _MAX_OPEN = 4, 64
"""Bounds of the open partitions. At least 4, so that one partition is published while others are processed;
at most 64, since each is a thread and holds some slices of a row group in memory. Chosen by reasoning: with
20 rows in each partition, 64 hold 1,280 rows, 20 times the default window."""
_WINDOWS_OPEN = 4
"""Target number of rows in open partitions, as a multiple of the requests allowed in flight. A larger
multiple keeps the window full while partitions wait for their slowest rows, but holds more memory. Measured
with ``tests.bench.shapes``: with 2, a hundred partitions of 20 rows left a quarter of the window unused."""


@dataclass(frozen=True, slots=True)
class Group:
    """Partitions that one task processes one after the other, in the order of their keys."""

    partitions: tuple[Partition, ...]

    def __str__(self) -> str:
        """The first and the last key, for the task's name."""
        first, last = (printable(one.key) for one in (self.partitions[0], self.partitions[-1]))
        count = len(self.partitions)
        return first if count == 1 else f"{first} .. {last} ({count})"


def group(partitions: Sequence[Partition], max_groups: int) -> tuple[Group, ...]:
    """Split partitions into consecutive groups of about equal work.

    Args:
        partitions: The partitions to process, in order.
        max_groups: Largest number of groups. With no more partitions than this, each is a group of its own.
    """
    if len(partitions) <= max_groups:
        return tuple(Group((partition,)) for partition in partitions)
    works = [partition.size_bytes + _OVERHEAD_BYTES for partition in partitions]
    shares: dict[int, list[Partition]] = {}
    done, total = 0, sum(works)
    for partition, work in zip(partitions, works, strict=True):
        # The share that contains the midpoint of its work, so a large partition tends to be alone in a group.
        share = (2 * done + work) * max_groups // (2 * total)
        shares.setdefault(share, []).append(partition)
        done += work
    return tuple(Group(tuple(members)) for members in shares.values())


def partition_concurrency(plan: Plan, limits: LimitOptions) -> int:
    """The number of partitions open at once: the user's choice, else as few as keep the window full.

    All rows of a small partition start together, and most have a reply long before the slowest one. Rows of
    other partitions must use the window while the partition waits for it and is published.
    """
    if limits.max_open_partitions is not None:
        return limits.max_open_partitions
    rows_in_each = max(plan.rows / max(len(plan.partitions), 1), 1.0)
    return min(max(math.ceil(_WINDOWS_OPEN * limits.max_concurrent / rows_in_each), _MIN_OPEN), _MAX_OPEN)
