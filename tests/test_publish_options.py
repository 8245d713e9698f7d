"""Options of an S3 destination and metadata of its source are applied to a published object."""

import base64
import zlib
from typing import Any

import fsspec
import pytest

from tasks.core.storage.location import locate
from tests.publish_setup import KEY, MEGABYTE, PublishCase, get

SIZES = pytest.mark.parametrize("size", [100, 6 * MEGABYTE])


def configure(monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """Set s3fs options, as ``FSSPEC_S3`` in the environment does."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"s3_additional_kwargs": options})


def head(case: PublishCase) -> dict[str, Any]:
    bucket, key, _ = case.destination.fs.split_path(case.destination.path(KEY))
    facts: dict[str, Any] = case.destination.fs.call_s3(
        "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED"
    )
    return facts


@SIZES
def test_the_checksum_in_the_store_matches_the_output(bucket: str, size: int) -> None:
    case = PublishCase.at(bucket, size)
    case.publish()
    checksum = zlib.crc32(case.output).to_bytes(4, "big")
    assert head(case)["ChecksumCRC32"] == base64.b64encode(checksum).decode()


@SIZES
def test_the_content_type_of_the_source_is_kept(bucket: str, size: int) -> None:
    case = PublishCase.at(bucket, size)
    case.source.fs.pipe_file(case.source.path(KEY), case.data, ContentType="application/x-parquet")
    case.publish()
    assert head(case)["ContentType"] == "application/x-parquet"


@SIZES
def test_metadata_and_content_type_of_the_options_are_used(
    bucket: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    configure(monkeypatch, Metadata={"team": "data"}, ContentType="application/x-other")
    case = PublishCase.at(bucket, size)
    case.publish()
    facts = head(case)
    assert facts["ContentType"] == "application/x-other"
    assert facts["Metadata"]["team"] == "data"


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
@SIZES
def test_a_checksum_required_by_the_options_is_created(
    bucket: str, monkeypatch: pytest.MonkeyPatch, size: int, algorithm: str
) -> None:
    configure(monkeypatch, ChecksumAlgorithm=algorithm)
    case = PublishCase.at(bucket, size)
    case.publish()
    assert get(case.destination) == case.output
    assert head(case)[f"Checksum{algorithm}"]


@SIZES
def test_with_customer_provided_keys_all_bytes_are_uploaded(
    bucket: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    configure(monkeypatch, SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    case = PublishCase.at(bucket, size)
    for _ in range(2):
        assert case.publish().bytes_copied == 0
    assert get(case.destination) == case.output
    assert head(case)["SSECustomerAlgorithm"] == "AES256"


def test_an_object_of_many_parts_can_be_a_source(bucket: str) -> None:
    first = PublishCase.at(bucket, 12 * MEGABYTE)
    first.publish()
    again = PublishCase(bucket, first.destination, locate(f"{bucket}/third"), first.output, b"more")
    assert again.publish().bytes_copied
    assert get(again.destination) == again.output
