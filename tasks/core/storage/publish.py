"""Publishes an output (source file plus tail) with the method for its destination: disk, S3 or other."""

from tasks.core.storage import publish_local, publish_s3, publish_stream
from tasks.core.storage.location import Location
from tasks.core.storage.output_bytes import OutputBytes, Tail, Transfer
from tasks.core.storage.stored_files import StoredFile

__all__ = ["Tail", "Transfer", "publish_appended"]


def publish_appended(
    source: Location,
    file: StoredFile,
    tail: Tail,
    destination: Location,
    key: str,
    replaces: StoredFile | None,
) -> Transfer:
    """Publish a source file with a tail under a key, atomically.

    If source and destination are in the same S3 store or on the same disk, the store or filesystem copies the
    source's bytes itself; else they are streamed once. Readers see the old complete file or the new one.

    Args:
        source: Location of the source.
        file: The source file as listed; it must not have changed since.
        tail: The bytes to append.
        destination: Location of the output.
        key: The output's key.
        replaces: The file under this key as listed; None when there is none.

    Returns:
        The bytes transferred.

    Raises:
        InputError: Access to the source or the destination is denied.
        StorageError: The store or the disk failed, or source or destination were replaced meanwhile; trying
            again is safe.
    """
    output = OutputBytes(source, file, tail)
    if destination.is_local:
        return publish_local.publish(output, destination, key, replaces)
    if destination.is_s3:
        return publish_s3.publish(output, destination, key, replaces)
    return publish_stream.publish(output, destination, key, replaces)
