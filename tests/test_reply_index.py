"""Which of several paid replies to a row counts."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from tasks.core.ledger import segment_format
from tasks.core.ledger.reply_index import ReplyIndex, is_final
from tasks.core.model import Outcome, Reply, Status
from tests.test_segment_format import key

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def reply(text: str, status: Status = Status.OK, *, age_s: float = 0.0, limit: int = 10) -> pa.Table:
    received_s = (NOW - timedelta(seconds=age_s)).timestamp()
    outcome = Outcome(status, text, max_output_tokens=limit, reply=Reply(received_s, "d@host"))
    return segment_format.table_of({key(1): outcome})


def text_of(*tables: pa.Table) -> str | None:
    known = ReplyIndex()
    for table in tables:
        known.add(table)
    (found,) = known.look_up([key(1)])
    return found.text if found else None


@pytest.mark.parametrize("turn", [1, -1])
def test_the_newest_reply_counts(turn: int) -> None:
    assert text_of(*[reply("old", age_s=9), reply("new"), reply("older", age_s=99)][::turn]) == "new"


@pytest.mark.parametrize("turn", [1, -1])
def test_a_complete_reply_is_never_replaced_by_a_truncated_one(turn: int) -> None:
    tables = [reply("all of it", age_s=9), reply("all", Status.TRUNCATED, limit=99)]
    assert text_of(*tables[::turn]) == "all of it"


@pytest.mark.parametrize("turn", [1, -1])
def test_of_truncated_replies_the_one_under_the_largest_limit_counts(turn: int) -> None:
    tables = [
        reply("some of it", Status.TRUNCATED, limit=20, age_s=9),
        reply("some", Status.TRUNCATED, limit=10),
    ]
    assert text_of(*tables[::turn]) == "some of it"


def test_a_truncated_reply_is_final_under_no_larger_limit() -> None:
    cut = Outcome(Status.TRUNCATED, "cut", max_output_tokens=10)
    assert [is_final(cut, limit) for limit in (9, 10, 11)] == [True, True, False]
    assert is_final(Outcome(Status.OK, "whole", max_output_tokens=10), 99)
    # Of an unknown status or limit nothing says that another request would bring more.
    assert is_final(Outcome(Status("deferred"), "later", max_output_tokens=10), 99)
    assert is_final(Outcome(Status.TRUNCATED, "cut"), 99)
    known = ReplyIndex()
    known.add(reply("cut", Status.TRUNCATED))
    assert [len(known.final_keys(limit)) for limit in (9, 10, 11)] == [1, 1, 0]
