"""Groups of tests when several processes run them: one group runs in one process, the longest groups first.

pytest-xdist's own marks for groups have no effect with pytest 9.2: it writes them into an attribute of a test
that pytest no longer reads, and then every test is a group of its own and shares nothing.
"""

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships no annotations

INSTALLATION: Final = "installation"
_USE_THE_INSTALLATION: Final = frozenset(
    f"test_{name}.py" for name in ("canary", "cancellation", "deployment", "prefect_pages", "readme")
)
LONGEST: Final = (
    INSTALLATION,
    *("test_spark.py", "test_resume.py", "test_publish_s3.py", "test_reading_destination.py"),
    *("test_ownserver.py", "test_command_line.py", "test_run_page.py", "test_faulty_store.py"),
    *("test_terminal.py", "test_lost_server.py", "test_released_formats.py", "test_flow.py", "test_kills.py"),
    *("test_pacing.py", "test_segment_store.py", "test_formats.py"),
)
"""In the order of their seconds in a run of all tests; by name in between, the last process would wait."""


def group_of(nodeid: str) -> str:
    """The file of a test, or the one group of all files that share the Prefect installation."""
    file = nodeid.partition("::")[0].rpartition("/")[2]
    return INSTALLATION if file in _USE_THE_INSTALLATION else file


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests in the order in which their groups are given to processes."""
    ranks = {group: rank for rank, group in enumerate(LONGEST)}
    return sorted(items, key=lambda item: ranks.get(group_of(item.nodeid), len(ranks)))


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # for the same reason
    """Gives each group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
