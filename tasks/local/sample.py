"""Writes sample partitions: a realistic table whose texts come from `sample_paragraphs`.

The same arguments and Python version give the same folders and values; ids are unique over all partitions.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.local.sample_paragraphs import Paragraph, paragraphs

FIRST_ID: Final = 10_000_000_000
"""More than 32 bits, so that a reader that narrows ids shows wrong values."""
NULL_EVERY: Final = 23
"""About 4 % of the texts are null; a prime, so that nulls do not fall on the same rows of each partition."""
BLANK: Final = "  \n "
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_S: Final = 365 * 24 * 3600
TAGS: Final = ("reference", "tutorial", "grammar", "runtime", "style")
FIRST_GROUP_SHARE: Final = 0.6
"""Share of a file's rows in the first of its two row groups, so that their sizes differ."""

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False, metadata={"comment": "unique over all partitions"}),
        pa.field("topic", pa.dictionary(pa.int32(), pa.string())),
        pa.field("body", pa.string(), metadata={"comment": "prose; null where it is lost"}),
        pa.field("words", pa.int32()),
        pa.field("cost", pa.decimal128(12, 2), metadata={"unit": "EUR"}),
        pa.field("updated_at", pa.timestamp("us", tz="UTC")),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("origin", pa.struct([("source", pa.string()), ("section", pa.int32())])),
    ],
    metadata={"dataset": "local sample", "license": "PSF-2.0"},
)


def write_sample(folder: Path | str, rows: int = 240, partitions: int = 4, seed: int = 7) -> list[str]:
    """Write the sample as Hive folders of Parquet files.

    Args:
        folder: The target; created if it is missing, files of the same name are replaced.
        rows: Rows over all partitions; when the paragraphs are used up, marked copies of them follow.
        partitions: Number of files, which differ in size; each has two row groups, unless it has one row.
        seed: Seed for paragraphs and values.

    Returns:
        The files' paths relative to the folder, such as `topic_group=a-c/part-0000.parquet`, in order of id.

    Raises:
        ValueError: There are fewer rows than partitions, or no partitions.
    """
    if not 1 <= partitions <= rows:
        message = f"{rows} rows cannot fill {partitions} partitions"
        raise ValueError(message)
    chance = random.Random(seed)  # noqa: S311 - sample values, no secrets
    groups = _groups(paragraphs(), partitions)
    streams = [_endless(members, chance) for members in groups.values()]
    next_id = FIRST_ID
    written: list[str] = []
    for number, size in enumerate(_sizes(rows, partitions)):
        part, group = divmod(number, len(groups))
        path = f"topic_group={list(groups)[group]}/part-{part:04d}.parquet"
        _write(Path(folder) / path, list(itertools.islice(streams[group], size)), next_id, chance)
        written.append(path)
        next_id += size
    return written


def _groups(found: Sequence[Paragraph], wanted: int) -> dict[str, list[Paragraph]]:
    """Group paragraphs by the first letter of their topic; fewer groups than wanted if letters run out."""
    by_letter = {
        letter: list(members)
        for letter, members in itertools.groupby(found, lambda one: one.topic[0].lower())
    }
    bins: dict[int, list[str]] = {}
    seen = 0
    for letter, members in by_letter.items():
        bins.setdefault(seen * wanted // len(found), []).append(letter)
        seen += len(members)
    return {
        f"{letters[0]}-{letters[-1]}": [one for letter in letters for one in by_letter[letter]]
        for letters in bins.values()
    }


def _endless(members: Sequence[Paragraph], chance: random.Random) -> Iterator[Paragraph]:
    """The paragraphs in random order, then endless marked copies of them."""
    shuffled = chance.sample(members, len(members))
    yield from shuffled
    for copy in itertools.count(2):
        for one in shuffled:
            yield Paragraph(one.topic, one.section, f"{one.text} (copy {copy})")


def _sizes(rows: int, partitions: int) -> list[int]:
    """Increasing sizes of at least one row: partition n has the weight n."""
    weights = partitions * (partitions + 1) // 2
    spare = rows - partitions
    sizes = [1 + spare * (number + 1) // weights for number in range(partitions)]
    sizes[-1] += rows - sum(sizes)
    return sizes


def _write(path: Path, members: Sequence[Paragraph], first_id: int, chance: random.Random) -> None:
    rows = [_row(one, first_id + number, chance) for number, one in enumerate(members)]
    path.parent.mkdir(parents=True, exist_ok=True)
    group_rows = max(1, round(len(rows) * FIRST_GROUP_SHARE))
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=group_rows, compression="zstd")


def _row(one: Paragraph, row_id: int, chance: random.Random) -> dict[str, Any]:
    body = _body(one.text, row_id - FIRST_ID)
    return {
        "id": row_id,
        "topic": one.topic,
        "body": body,
        "words": None if body is None else len(body.split()),
        "cost": Decimal(chance.randrange(100, 1_000_000)).scaleb(-2),
        "updated_at": START
        + timedelta(seconds=chance.randrange(YEAR_S), microseconds=chance.randrange(10**6)),
        "tags": chance.choice([None, [], chance.sample(TAGS, 1), chance.sample(TAGS, 2)]),
        "origin": {"source": "pydoc_data.topics", "section": one.section},
    }


def _body(text: str, number: int) -> str | None:
    """The text of a row; blank for the second row of all, null for one row in `NULL_EVERY`."""
    if number == 1:
        return BLANK
    return None if number % NULL_EVERY == NULL_EVERY // 2 else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a sample and print its files."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.local.sample", description="Write sample partitions."
    )
    parser.add_argument("folder", type=Path, help="target folder; created if it is missing")
    parser.add_argument("--rows", type=int, default=240, help="rows over all partitions (default: 240)")
    parser.add_argument("--partitions", type=int, default=4, help="files, of different sizes (default: 4)")
    parser.add_argument("--seed", type=int, default=7, help="seed for paragraphs and values (default: 7)")
    chosen = parser.parse_args(arguments)
    try:
        written = write_sample(chosen.folder, chosen.rows, chosen.partitions, chosen.seed)
    except ValueError as error:
        parser.error(str(error))
    for path in written:
        sys.stdout.write(f"{chosen.folder / path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
