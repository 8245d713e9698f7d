"""The bytes of a segment: what goes in comes out, or it is known to be damaged."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import PartitionError
from tasks.core.ledger import segment_format
from tasks.core.model import Outcome, Status

ODD = ["", "\0", "a\r\n\tb", "\N{PILE OF POO}\u202e\u0301", "NULL", "x" * 100_000, '{"a": [1, 2]}', "\ufffd"]


def key(number: int) -> bytes:
    return number.to_bytes(16)


def entries(count: int = 50) -> dict[bytes, Outcome]:
    return {key(n): Outcome(Status.OK, f"summary {n}", None, "m", n, 1) for n in range(count)}


def stored(kept: dict[bytes, Outcome]) -> tuple[bytes, str]:
    data = segment_format.encode([segment_format.table_of(kept)])
    return data, segment_format.digest(data)


answered = st.builds(
    Outcome,
    st.sampled_from([status for status in Status if status.is_answered]),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(ODD),
    st.none() | st.sampled_from(ODD),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.integers(0, 2**31 - 1),
    st.none() | st.integers(0, 2**31 - 1),
    reused=st.just(value=True),
)


@given(st.dictionaries(st.binary(min_size=16, max_size=16), answered, max_size=20))
def test_every_outcome_comes_back_as_it_was(kept: dict[bytes, Outcome]) -> None:
    table = segment_format.decode(*stored(kept))
    assert table["key"].to_pylist() == list(kept)
    assert segment_format.outcomes(table) == list(kept.values())


def test_only_answers_are_kept_for_ever() -> None:
    assert [status for status in Status if not status.is_answered] == [Status.EMPTY, Status.FAILED]


@pytest.mark.parametrize("part", range(20))
def test_a_flipped_byte_anywhere_is_noticed(part: int) -> None:
    data, digest = stored(entries())
    for place in range(part, len(data), 20):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises(PartitionError):
            segment_format.decode(bytes(damaged), digest)


@pytest.mark.parametrize("kept", [0, 1, 4, 100, -9, -1])
def test_a_torn_tail_is_noticed(kept: int) -> None:
    data, digest = stored(entries())
    with pytest.raises(PartitionError):
        segment_format.decode(data[:kept], digest)


def test_a_segment_of_another_version_is_not_believed() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"key": pa.array([key(1)], segment_format.KEY)}), sink)
    data = sink.getvalue()
    with pytest.raises(PartitionError, match="another version"):
        segment_format.decode(data, segment_format.digest(data))


def test_an_outcome_no_column_can_hold_does_not_keep_its_neighbours_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = {
        key(1): Outcome(Status.OK, "secret \ud800"),
        key(2): Outcome(Status.OK, "good"),
        key(3): Outcome(Status.OK, "too many", prompt_tokens=2**40),
    }
    assert segment_format.table_of(bad)["text"].to_pylist() == ["good"]
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


def test_several_tables_become_one_segment_in_their_order() -> None:
    later = {key(n): Outcome(Status.OK, "later") for n in range(50, 60)}
    tables = [segment_format.table_of(entries()), segment_format.table_of(later)]
    data = segment_format.encode(iter(tables))
    together = segment_format.decode(data, segment_format.digest(data))
    assert together.equals(pa.concat_tables(tables))
