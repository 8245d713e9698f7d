"""Groups of tests when several processes run them: one group runs in one process, the longest groups first.

pytest-xdist's own marks for groups have no effect with pytest 9.2: it writes them into an attribute of a test
that pytest no longer reads, and then every test is a group of its own and shares nothing.
"""

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships no annotations

INSTALLATION, FLOWS = "installation", "flows"
SHARING: Final = {
    # The Prefect installation of `prefect` in conftest.py.
    INSTALLATION: {
        *("test_canary.py", "test_cancellation.py", "test_deployment.py", "test_prefect_pages.py"),
        "test_readme.py",
    },
    # The server that Prefect starts for the first flow in a process.
    FLOWS: {
        *("test_choices.py", "test_command_line.py", "test_damaged_segments.py", "test_faulty_store.py"),
        *("test_flow.py", "test_left_out_files.py", "test_stops.py", "test_two_runs.py"),
    },
}
"""Groups of several files, by what these share; every other file is a group."""

LONGEST: Final = (
    *(INSTALLATION, FLOWS, "test_spark.py", "test_wheel.py", "test_resume.py", "test_publish_s3.py"),
    *("test_reading_destination.py", "test_ownserver.py", "test_run_page.py", "test_terminal.py"),
    *("test_lost_server.py", "test_released_formats.py", "test_kills.py", "test_pacing.py"),
    *("test_segment_store.py", "test_formats.py"),
)
"""In the order of their seconds in a run of all tests. A long group that starts late would end alone."""

_GROUPS: Final = {file: group for group, files in SHARING.items() for file in files}


def group_of(nodeid: str) -> str:
    """The group of a test: its file, or that of all files that share something."""
    file = nodeid.partition("::")[0].rpartition("/")[2]
    return _GROUPS.get(file, file)


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests in the order in which their groups are given to processes."""
    ranks = {group: rank for rank, group in enumerate(LONGEST)}
    return sorted(items, key=lambda item: ranks.get(group_of(item.nodeid), len(ranks)))


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # for the same reason
    """Gives each group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
