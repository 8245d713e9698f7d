"""The groups in which several processes run the tests."""

from pathlib import Path

from tests.groups import INSTALLATION, LONGEST, group_of

TESTS = Path(__file__).parent


def test_every_named_group_exists() -> None:
    assert {group for group in LONGEST if not (TESTS / group).exists()} == {INSTALLATION}


def test_files_that_use_the_prefect_installation_run_in_one_process() -> None:
    using = {path.name for path in TESTS.glob("test_*.py") if "prefect: Installation" in path.read_text()}
    assert using - {Path(__file__).name} == {
        path.name for path in TESTS.glob("test_*.py") if group_of(f"tests/{path.name}::test") == INSTALLATION
    }
