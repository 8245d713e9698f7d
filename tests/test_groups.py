"""The groups in which several processes run the tests."""

from pathlib import Path

from tests.groups import INSTALLATION, LONGEST, SHARING

TESTS = Path(__file__).parent


def test_every_file_named_in_a_group_exists() -> None:
    named = {*LONGEST, *(file for files in SHARING.values() for file in files)}
    assert {name for name in named if not (TESTS / name).exists()} == set(SHARING)


def test_all_files_that_use_the_prefect_installation_are_in_its_group() -> None:
    files = {path.name for path in TESTS.glob("test_*.py") if "prefect: Installation" in path.read_text()}
    assert files - {Path(__file__).name} == SHARING[INSTALLATION]
