"""Publishes a source with a tail to any other store: assembled in a temporary file, then uploaded.

The temporary file has no name, so that nothing of it is left when the process is killed. It is uploaded by
the filesystem's own ``put_file``: object stores (Azure, Google) make an object visible when all of it has
arrived. File servers that fsspec supports (``sftp``, ``smb``, ``hdfs``) show a file while it is written, as
they do for every program that uses them through fsspec.
"""

import os

from tasks.core.errors import StorageError
from tasks.core.storage import stored_files, temporary_files
from tasks.core.storage.location import Location
from tasks.core.storage.output_bytes import OutputBytes, Transfer, digest_of, read_range
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile


def publish(output: OutputBytes, destination: Location, key: str, replaces: StoredFile | None) -> Transfer:
    """Publish an output in a store without conditional writes.

    Raises:
        InputError: The source or the destination may not be read or written.
        StorageError: The store or the disk failed, or source or destination were replaced meanwhile.
    """
    target = destination.path(key)
    with (
        translate_errors(destination.url, key),
        temporary_files.unnamed_file(temporary_files.folder()) as whole,
    ):
        digest = output.write_to(whole, 0)
        output.check_source()
        if digest_of(whole, 0) != digest:
            message = f"{temporary_files.folder()} does not hold what was written to it; check the disk."
            raise StorageError(message)
        stored_files.check_not_replaced(destination, key, replaces)
        # Clients take a path; this one is of an open file.
        whole.seek(0)
        destination.fs.put_file(f"/dev/fd/{whole.fileno()}", target)
        found = stored_files.find_file(destination, target)
        if (
            not found
            or found.size_bytes != output.size_bytes
            or not _is_equal(output, destination, found, whole.fileno())
        ):
            message = f"{destination.url_of(key)} is not what was uploaded; check the store, and run again."
            raise StorageError(message)
    return Transfer(bytes_read=output.bytes_read, bytes_uploaded=output.size_bytes)


def _is_equal(output: OutputBytes, destination: Location, found: StoredFile, whole: int) -> bool:
    return all(
        read_range(destination, found, start, stop) == os.pread(whole, stop - start, start)
        for start, stop in output.samples()
    )
