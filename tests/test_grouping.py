import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.model import LeftOut, Partition, Plan
from tasks.core.options import LimitOptions
from tasks.core.planning.grouping import group, partition_concurrency

SIZES = st.lists(st.integers(0, 2**34), min_size=1, max_size=300)


def partitions(sizes: list[int]) -> list[Partition]:
    return [Partition(f"{number:04}.parquet", f"/{number}", size, "v") for number, size in enumerate(sizes)]


def test_up_to_the_bound_every_partition_has_a_task_of_its_own() -> None:
    assert [str(one) for one in group(partitions([1, 2, 3]), 3)] == [
        "0000.parquet",
        "0001.parquet",
        "0002.parquet",
    ]


@given(SIZES, st.integers(1, 40))
def test_groups_hold_every_partition_once_and_in_order_and_are_at_most_so_many(
    sizes: list[int], most: int
) -> None:
    groups = group(partitions(sizes), most)
    assert [member for one in groups for member in one.partitions] == partitions(sizes)
    assert len(groups) <= most or len(groups) == len(sizes) <= most


def test_small_partitions_share_and_a_large_one_is_alone() -> None:
    large = 2**30
    groups = group(partitions([10] * 50 + [large] + [10] * 50), 10)
    assert [len(one.partitions) for one in groups] == [50, 1, 50]
    assert str(groups[0]) == "0000.parquet .. 0049.parquet (50)"


@pytest.mark.parametrize(
    ("rows_in_each", "window", "expected"),
    [(20, 64, 13), (250, 64, 4), (1_000_000, 64, 4), (5, 64, 52), (1, 64, 64), (0, 64, 64), (1000, 1000, 4)],
)
def test_small_partitions_are_open_together_as_many_as_fill_the_window(
    rows_in_each: int, window: int, expected: int
) -> None:
    plan = Plan(tuple(partitions([1] * 100)), 100 * rows_in_each, LeftOut())
    assert partition_concurrency(plan, LimitOptions(max_concurrent=window)) == expected
    assert partition_concurrency(plan, LimitOptions(max_concurrent=window, max_open_partitions=7)) == 7
