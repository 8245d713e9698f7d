"""Publishes an output to any other store: builds it in a temporary file, then uploads that.

The temporary file has no name, so a killed process leaves nothing behind. It is uploaded with the
filesystem's ``put_file``. Object stores (Azure, Google) show an object when its upload is complete. File
servers that fsspec supports (``sftp``, ``smb``, ``hdfs``) show a file while it is written.
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
        InputError: Access to the source or the destination is denied.
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
            message = f"A temporary file in {temporary_files.folder()} has wrong content; check the disk."
            raise StorageError(message)
        stored_files.check_not_replaced(destination, key, replaces)
        # Clients need a path; this one refers to the open file.
        whole.seek(0)
        destination.fs.put_file(f"/dev/fd/{whole.fileno()}", target)
        found = stored_files.find_file(destination, target)
        if (
            not found
            or found.size_bytes != output.size_bytes
            or not _is_equal(output, destination, found, whole.fileno())
        ):
            message = f"{destination.url_of(key)} differs from the upload; check the store, and run again."
            raise StorageError(message)
    return Transfer(bytes_read=output.bytes_read, bytes_uploaded=output.size_bytes)


def _is_equal(output: OutputBytes, destination: Location, found: StoredFile, whole: int) -> bool:
    return all(
        read_range(destination, found, start, stop) == os.pread(whole, stop - start, start)
        for start, stop in output.samples()
    )
