"""What all partitions of a run have in common.

Built once, from what the user asked for and what the environment says; everything about it is checked here,
before a listing is read.
"""

import hashlib
import socket
from dataclasses import dataclass

from tasks.core.earlier_keys import EarlierKeys, earlier_keys, earlier_limit
from tasks.core.endpoint import Endpoint
from tasks.core.model import Partition
from tasks.core.options import ModelOptions, OutputOptions, PriceOptions
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.pricing import Price, price_of
from tasks.core.prompt import Prompt, Request
from tasks.core.settings import Settings
from tasks.core.storage import discovery
from tasks.core.storage.location import Location, locate


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all partitions of a run have in common.

    Attributes:
        pattern: The source as the user wrote it: a prefix, a glob or a file.
        source: The folder partition keys are relative to.
        destination: Where enriched partitions are published.
        text_column: The column to summarize.
        columns: The columns to add.
        request: What all requests have in common.
        endpoints: Where the model is reached.
        max_failed_fraction: The part of a partition's rows that may fail and it is still published.
        price: What tokens cost; None when it is not known.
    """

    pattern: str
    source: Location
    destination: Location
    text_column: str
    columns: OutputSchema
    request: Request
    endpoints: tuple[Endpoint, ...]
    max_failed_fraction: float = 1.0
    price: Price | None = None

    @property
    def earlier(self) -> tuple[EarlierKeys, ...]:
        """The keys that rows may have in ledgers and outputs of versions before 0.3.0."""
        return earlier_keys(self.request, self.endpoints)

    def earlier_limit(self, fingerprint: str) -> int | None:
        """The limit under which versions before 0.3.0 gave this job a fingerprint; None if none did."""
        return earlier_limit(self.request, self.endpoints, fingerprint)

    def origin_of(self, partition_key: str) -> str:
        """A hash that is equal only for the same key below the same source folder, as 32 hex digits.

        A path on a disk means a folder of one machine: on another it may be another folder.
        """
        protocol = self.source.fs.protocol
        name = protocol if isinstance(protocol, str) else protocol[0]
        store = f"{name} {socket.gethostname()}" if self.source.is_local else name
        address = "\0".join((store, discovery.real_path(self.source).rstrip("/"), partition_key))
        return hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    @staticmethod
    def version_of(partition: Partition) -> str:
        """The source's version, as an output's footer names it."""
        return f"{partition.version} {partition.size_bytes}"


def prepare(
    source: str,
    destination: str,
    text_column: str,
    *,
    prompt: str,
    model: ModelOptions,
    output: OutputOptions,
    settings: Settings,
    prices: PriceOptions = PriceOptions(),
) -> Job:
    """Resolve and check what was asked for.

    Raises:
        InputError: A URL cannot be opened, or source and destination overlap.
    """
    job = Job(
        pattern=source,
        source=discovery.source_location(source),
        destination=locate(destination),
        text_column=text_column,
        columns=OutputSchema(output.column_prefix),
        request=Request(
            model=settings.model_name,
            prompt=Prompt(prompt),
            temperature=model.temperature,
            max_output_tokens=model.max_output_tokens,
        ),
        endpoints=(settings.endpoint,),
        max_failed_fraction=output.max_failed_fraction,
        price=price_of(settings.model_name, prices.input_usd_per_million, prices.output_usd_per_million),
    )
    discovery.check_apart(job.source, job.destination)
    return job
