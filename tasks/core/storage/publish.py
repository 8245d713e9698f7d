"""Publishes an output that is a whole source file and a tail, in the way that suits the destination."""

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
    """Publish a source with a tail under a key, in one step.

    The source's bytes do not travel where source and destination are in one S3 store or on one disk; else
    they are streamed once. A reader sees the old complete file or the new complete one.

    Args:
        source: Where the source is.
        file: The source file as ``storage`` found it; it must still be that.
        tail: What is appended.
        destination: Where the output goes.
        key: Its key there.
        replaces: What is under the key by now, as ``storage`` found it; None when nothing is.

    Returns:
        What it took.

    Raises:
        InputError: The source or the destination may not be read or written.
        StorageError: The store or the disk failed, or source or destination were replaced meanwhile; trying
            again is safe.
    """
    output = OutputBytes(source, file, tail)
    if destination.is_local:
        return publish_local.publish(output, destination, key, replaces)
    if destination.is_s3:
        return publish_s3.publish(output, destination, key, replaces)
    return publish_stream.publish(output, destination, key, replaces)
