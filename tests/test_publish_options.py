"""What the options of an S3 destination, and of its source, make of a published object."""

import base64
import zlib
from typing import Any

import fsspec
import pytest

from tasks.core.storage.location import locate
from tests.publish_setup import KEY, MEGABYTE, Scene, get

SIZES = pytest.mark.parametrize("size", [100, 6 * MEGABYTE])


def configure(monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """What ``FSSPEC_S3`` in the environment does."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"s3_additional_kwargs": options})


def head(scene: Scene) -> dict[str, Any]:
    bucket, key, _ = scene.destination.fs.split_path(scene.destination.path(KEY))
    facts: dict[str, Any] = scene.destination.fs.call_s3(
        "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED"
    )
    return facts


@SIZES
def test_the_stores_checksum_of_the_output_is_that_of_its_bytes(bucket: str, size: int) -> None:
    scene = Scene.at(bucket, size)
    scene.publish()
    checksum = zlib.crc32(scene.output).to_bytes(4, "big")
    assert head(scene)["ChecksumCRC32"] == base64.b64encode(checksum).decode()


@SIZES
def test_the_content_type_of_the_source_is_kept(bucket: str, size: int) -> None:
    scene = Scene.at(bucket, size)
    scene.source.fs.pipe_file(scene.source.path(KEY), scene.data, ContentType="application/x-parquet")
    scene.publish()
    assert head(scene)["ContentType"] == "application/x-parquet"


@SIZES
def test_metadata_and_content_type_of_the_options_are_used(
    bucket: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    configure(monkeypatch, Metadata={"team": "data"}, ContentType="application/x-other")
    scene = Scene.at(bucket, size)
    scene.publish()
    facts = head(scene)
    assert facts["ContentType"] == "application/x-other"
    assert facts["Metadata"]["team"] == "data"


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
@SIZES
def test_a_checksum_that_the_options_ask_for_is_made(
    bucket: str, monkeypatch: pytest.MonkeyPatch, size: int, algorithm: str
) -> None:
    configure(monkeypatch, ChecksumAlgorithm=algorithm)
    scene = Scene.at(bucket, size)
    scene.publish()
    assert get(scene.destination) == scene.output
    assert head(scene)[f"Checksum{algorithm}"]


@SIZES
def test_with_keys_of_the_customers_own_everything_is_streamed(
    bucket: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    configure(monkeypatch, SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    scene = Scene.at(bucket, size)
    for _ in range(2):
        assert scene.publish().bytes_copied == 0
    assert get(scene.destination) == scene.output
    assert head(scene)["SSECustomerAlgorithm"] == "AES256"


def test_an_object_of_many_parts_is_a_source_too(bucket: str) -> None:
    first = Scene.at(bucket, 12 * MEGABYTE)
    first.publish()
    again = Scene(bucket, first.destination, locate(f"{bucket}/third"), first.output, b"more")
    assert again.publish().bytes_copied
    assert get(again.destination) == again.output
