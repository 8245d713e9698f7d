"""Translates the exceptions of stores and disks into this project's errors.

All exception classes of s3fs, pyarrow and the disk are listed in this file alone. Only codes of a store's
reply get into messages, since its text may contain anything.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from s3fs.utils import FileExpired

from tasks.core.errors import InputError, PartitionError, PipelineError, StorageError
from tasks.core.escaping import printable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""

STORE_ERRORS = (OSError, BotoCoreError, ClientError, aiohttp.ClientError)
"""Exceptions of stores' clients and disks."""


@contextmanager
def translate_errors(where: str, what: str = "") -> Iterator[None]:
    """Translate exceptions of a store or disk into this project's errors.

    Args:
        where: The location as the user wrote it, for messages.
        what: The file in this location, such as a partition's key.

    Raises:
        InputError: Credentials or permissions are missing.
        StorageError: Any other failure of the store or the disk.
    """
    place = f"{where} ({printable(what)})" if what else where
    try:
        yield
    except PipelineError:
        raise
    except (NoCredentialsError, PartialCredentialsError):
        message = (
            f"No credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile."
        )
        raise InputError(message) from None
    except PermissionError:
        message = f"Access to {place} is denied: check the credentials and their permissions."
        raise InputError(message) from None
    except FileExpired:
        message = f"{place} was replaced while it was read; run again."
        raise StorageError(message) from None
    except FileNotFoundError:
        message = f"{place} does not exist, or was removed meanwhile; run again if it exists."
        raise StorageError(message) from None
    except STORE_ERRORS as error:
        if status_of(error) == HTTPStatus.PRECONDITION_FAILED:
            message = f"{place} was replaced meanwhile; run again."
            raise StorageError(message) from None
        is_full = isinstance(error, OSError) and error.errno in _FULL
        cure = "free space there" if is_full else "if it lasts, check the address and the network"
        message = f"{place}: {_reason(error)} from storage; {cure}."
        raise StorageError(message) from None


@contextmanager
def translate_build_errors(folder: Path, name: str) -> Iterator[None]:
    """Translate exceptions raised while an output's temporary file is written.

    Args:
        folder: The folder of the temporary file.
        name: The partition, for messages.

    Raises:
        StorageError: The disk failed or is full.
        PartitionError: The rows cannot be written as Parquet.
    """
    try:
        yield
    except pa.ArrowException as error:
        message = (
            f"The new columns of {printable(name)} cannot be written ({type(error).__name__}); "
            "leave this partition out."
        )
        raise PartitionError(message) from None
    except OSError as error:
        message = (
            f"{printable(name)} cannot be built in {folder}: {_reason(error)}; "
            "free space there, or set TMPDIR to a folder with more space, and run again."
        )
        raise StorageError(message) from None


def is_name_taken(error: OSError) -> bool:
    """Whether a conditional create failed because the name exists, or another writer is creating it."""
    return isinstance(error, FileExistsError) or code_of(error) in _TAKEN


def code_of(error: Exception) -> str:
    """The error code of an S3 store's reply; empty without a reply."""
    answer = _answer(error)
    return str(answer.response.get("Error", {}).get("Code", "no code")) if answer else ""


def status_of(error: Exception) -> int:
    """The HTTP status of an S3 store's reply; 0 without a reply."""
    answer = _answer(error)
    return int(answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) if answer else 0


def _answer(error: Exception) -> ClientError | None:
    # s3fs raises an OSError whose cause is botocore's error.
    answer = error.__cause__ if isinstance(error.__cause__, ClientError) else error
    return answer if isinstance(answer, ClientError) else None


def _reason(error: Exception) -> str:
    """The error's class with the store's code, or with the operating system's message."""
    if code := code_of(error):
        return f"{type(error).__name__} ({code})"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{type(error).__name__} ({os.strerror(error.errno)})"
    return type(error).__name__
