import io
import json
from dataclasses import replace

from rich.console import Console

from tasks.core.planning.plan import PartitionPlan, Rates, Reason, RunPlan
from tasks.core.planning.plan_view import headline, to_json, to_markdown, to_table
from tasks.core.planning.sampling import Estimate
from tasks.core.pricing import Price

RATES = Rates(
    tokenizer="o200k_base",
    completion_tokens=50.0,
    observed_replies=10,
    max_output_tokens=100,
    price=Price(1.0, 10.0),
)
FINISHED = PartitionPlan(key="a.parquet", reason=Reason.FINISHED, rows=7)


def part(number: int, reason: Reason = Reason.NEW) -> PartitionPlan:
    return PartitionPlan(
        key=f"[b]|{number}.parquet",
        reason=reason,
        rows=1010,
        empty=4,
        paid=2,
        equal_in_partition=3,
        equal_in_run=1,
        requests=1000,
        prompt=Estimate(100_000.0, 1_000_000.0),
        sampled=32,
    )


def plan_of(*partitions: PartitionPlan) -> RunPlan:
    return RunPlan(source="s3://in", destination="s3://out", partitions=partitions, rates=RATES, orphans=())


def shown(plan: RunPlan) -> str:
    console = Console(width=150, file=io.StringIO())
    console.print(to_table(plan))
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # the StringIO above


def test_the_table_shows_totals_bounds_and_how_they_were_estimated() -> None:
    text = shown(plan_of(FINISHED, part(1), part(2, Reason.REQUEST_CHANGED)))
    for expected in (
        "[b]|1.parquet",
        "prompt, model or parameters changed",
        "1 new, 1 prompt, model or parameters changed, 1 finished",
        "2,020 (8 empty, 4 paid for, 6 equal to a row of the same partition, 2 equal to a row of another, ",
        "about 200,000 (195,757 to 204,243)",
        "64 of these rows, picked by hash, counted with o200k_base",
        "about 100,000 (0 to 200,000)",
        "50 each, the mean of 10 earlier replies",
        "about 1.2000 (0.1958 to 2.2042) USD",
        "2 of 3 partitions would run, 2,000 requests.",
    ):
        assert expected in text
    assert "orphaned" not in text


def test_of_many_partitions_some_are_shown_and_all_are_counted() -> None:
    plan = plan_of(*(part(number) for number in range(500)))
    for text in (shown(plan), to_markdown(plan)):
        assert text.count(".parquet") == 30
        assert "and 470 more" in text
        assert "500,000" in text
    assert len(json.loads(to_json(plan))["partitions"]) == 500


def test_json_lists_every_partition_and_its_numbers_add_up() -> None:
    parsed = json.loads(to_json(plan_of(FINISHED, part(1), part(2))))
    assert [one["why"] for one in parsed["partitions"]] == ["finished", "new", "new"]
    assert [one["runs"] for one in parsed["partitions"]] == [False, True, True]
    assert parsed["totals"]["requests"] == sum(one["requests"] for one in parsed["partitions"]) == 2000
    assert parsed["totals"]["cost_usd"]["high"] > parsed["totals"]["cost_usd"]["likely"]
    assert parsed["rates"]["tokenizer"] == "o200k_base"


def test_nothing_to_do_is_said_in_one_line() -> None:
    assert headline(plan_of(FINISHED)) == "Nothing to do: 1 partitions are finished and unchanged"
    left = PartitionPlan(key="b", reason=Reason.LEFT)
    assert headline(plan_of(part(1), left)).endswith("1 left for another run")
    assert "prompt tokens" not in shown(plan_of(FINISHED))


def test_an_unknown_price_an_assumed_tokenizer_and_an_assumed_reply_length_are_stated() -> None:
    rates = replace(RATES, price=None, tokenizer_is_assumed=True, observed_replies=0)
    text = shown(replace(plan_of(part(1)), rates=rates))
    for expected in (
        "unknown: the model is not",
        "may differ from this model's own vocabulary",
        "a guess, because there is",
    ):
        assert expected in text
    assert json.loads(to_json(replace(plan_of(part(1)), rates=rates)))["totals"]["cost_usd"] is None


def test_orphaned_outputs_are_listed_with_their_fate() -> None:
    plan = replace(plan_of(FINISHED), orphans=tuple(f"{n}.parquet" for n in range(12)))
    assert "12 whose source partition was deleted (kept, prune removes them): 0.parquet" in shown(plan)
    assert "and 2 more" in shown(plan)
    assert "(would be removed)" in to_markdown(replace(plan, prunes=True))


def test_markdown_keeps_odd_keys_in_their_cells() -> None:
    assert "| [b]\\|1.parquet | new | 1,010 |" in to_markdown(plan_of(part(1)))
