"""Locations: how URLs and paths are resolved, and which are rejected."""

from pathlib import Path

import pytest

from tasks.core.errors import InputError
from tasks.core.storage.location import locate


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://host/data", "https has no folders to list"),
        ("http://host/data", "http has no folders to list"),
        ("gs://bucket/data", "gcsfs"),
        ("nonsense://bucket/data", "Use s3://bucket/folder"),
        ("s3://", "names no bucket"),
        ("memory://", "names no bucket"),
        ("s3:/bucket/data", "two slashes"),
        ("", "is empty"),
        ("data:,x", "no folders"),
        ("simplecache::s3://bucket/x", "chained"),
    ],
)
def test_the_error_for_an_invalid_url_shows_what_to_write(url: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        locate(url)


def test_a_url_with_a_password_is_rejected_and_not_quoted() -> None:
    with pytest.raises(InputError) as refused:
        locate("s3://user:hunter2@bucket/x")
    assert "hunter2" not in str(refused.value)


def test_home_relative_and_trailing_slash_paths_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    roots = [locate(url).root for url in ("~/a", "a", "a/", "./a", f"file://{tmp_path}/a", f"{tmp_path}/a//")]
    assert set(roots) == {str(tmp_path / "a")}
