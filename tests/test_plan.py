"""The plan against what the run that follows it does, counted at the endpoint."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.core.errors import DeploymentError, InputError, PreflightError
from tasks.core.lease.lease import Lease
from tasks.core.options import RunOptions
from tasks.core.planning.estimate import make_plan
from tasks.core.planning.partition_status import find_work
from tasks.core.planning.plan import Reason, RunPlan
from tasks.core.planning.token_counting import Tokenizer
from tasks.core.storage.location import locate
from tasks.local.chat_protocol import tokens_of
from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import job_of, names, run, write

# The endpoint's own way to count, so that what is compared is the plan and not two vocabularies.
ENDPOINTS = Tokenizer("endpoint", False, lambda messages: sum(tokens_of(content) for _, content in messages))


def texts(rows: int, first: int = 0) -> list[str | None]:
    return [f"This is row {n}. And more." for n in range(first, first + rows)]


def plan_of(folders: tuple[str, str], prompt: str = "Summarize.", sampled_rows: int = 10_000) -> RunPlan:
    return make_plan(job_of(*folders, prompt=prompt), tokenizer=ENDPOINTS, sampled_rows=sampled_rows)


def reasons(plan: RunPlan) -> list[Reason]:
    return [partition.reason for partition in plan.partitions]


def assert_comes_true(
    plan: RunPlan, folders: tuple[str, str], server: Endpoint, prompt: str = "Summarize."
) -> None:
    """The run that follows sends what was planned, and is billed within the bounds."""
    server.reset()
    run(*folders, prompt=prompt)
    stats = server.stats()
    assert stats.requests == sum(partition.requests for partition in plan.partitions)
    prompt_tokens, completion_tokens = (
        plan.prompt_tokens(*plan.selected),
        plan.completion_tokens(*plan.selected),
    )
    assert prompt_tokens.low <= stats.prompt_tokens + 1e-6
    assert stats.prompt_tokens - 1e-6 <= prompt_tokens.high
    assert completion_tokens.low <= stats.completion_tokens <= completion_tokens.high


def test_a_new_dataset_is_planned_to_the_request_and_when_all_rows_are_counted_to_the_token(
    folders: tuple[str, str], server: Endpoint
) -> None:
    write(folders[0], [*texts(300), None, "  ", "", texts(1)[0]])
    write(folders[0], [*texts(100, 250), "One more. And more."], "day=1/b.parquet")
    plan = plan_of(folders)
    assert reasons(plan) == [Reason.NEW, Reason.NEW]
    first, second = plan.partitions
    assert (first.rows, first.empty, first.equal_in_partition, first.equal_in_run) == (101, 0, 0, 0)
    assert (second.rows, second.empty, second.equal_in_partition) == (304, 3, 1)
    assert (first.requests, second.requests, second.equal_in_run) == (101, 250, 50)
    assert names(folders[1]) == []
    assert_comes_true(plan, folders, server)
    likely = plan.prompt_tokens(*plan.selected)
    assert likely.low == likely.likely == likely.high == pytest.approx(server.stats().prompt_tokens)


def test_the_billed_tokens_are_within_the_bounds_of_the_sample(
    here: tuple[str, str], server: Endpoint
) -> None:
    chance = random.Random(5)
    for number in range(3):
        rows = [f"Row {number}.{n}. " + "word " * int(chance.lognormvariate(3, 1)) for n in range(200)]
        rows += [
            f"Zeile {number}.{n}: " + "\N{SNOWMAN} größer " * chance.randint(1, 40)
            for n in range(60 * number)
        ]
        write(here[0], rows, f"part-{number}.parquet")
    plan = plan_of(here, sampled_rows=150)
    assert [partition.sampled for partition in plan.partitions] == [50, 50, 50]
    spread = plan.prompt_tokens(*plan.selected)
    assert 0.0 < spread.high - spread.low < 0.25 * spread.likely
    assert_comes_true(plan, here, server)


def test_after_an_interrupted_run_the_rest_is_planned(folders: tuple[str, str], endpoint: Serve) -> None:
    server = endpoint(latency_ms=5)
    write(folders[0], [*texts(300), "A text. [[fault:unauthorized]]"])
    write(folders[0], texts(30, 1000), "later.parquet")
    with pytest.raises(DeploymentError):
        run(*folders)
    write(folders[0], [*texts(300), "All is well. More."])
    plan = plan_of(folders)
    interrupted = plan.partitions[-1]
    assert interrupted.reason is Reason.INTERRUPTED
    assert interrupted.paid > 200
    assert interrupted.paid + interrupted.requests == 301
    assert plan.rates.observed_replies >= interrupted.paid
    assert_comes_true(plan, folders, server)


def test_a_changed_row_is_one_request_and_earlier_replies_give_the_length_of_the_next(
    folders: tuple[str, str], server: Endpoint
) -> None:
    rows = texts(200)
    write(folders[0], rows)
    write(folders[0], texts(50, 500), "unchanged.parquet")
    run(*folders)
    mean = server.stats().completion_tokens / server.stats().paid
    rows[17] = "This is something else. And more."
    write(folders[0], rows)
    plan = plan_of(folders)
    assert reasons(plan) == [Reason.SOURCE_CHANGED, Reason.FINISHED]
    changed, finished = plan.partitions
    assert (changed.paid, changed.requests) == (199, 1)
    assert (finished.rows, finished.requests) == (50, 0)
    assert plan.rates.observed_replies == 200
    assert plan.rates.completion_tokens == pytest.approx(mean, rel=0.1)
    assert_comes_true(plan, folders, server)


def test_a_new_partition_learns_from_finished_ones(here: tuple[str, str], server: Endpoint) -> None:
    write(here[0], texts(40))
    run(*here)
    mean = server.stats().completion_tokens / 40
    write(here[0], texts(10, 900), "tomorrow.parquet")
    plan = plan_of(here)
    assert plan.rates.observed_replies == 40
    assert plan.rates.completion_tokens == pytest.approx(mean)
    assert reasons(plan) == [Reason.FINISHED, Reason.NEW]
    assert_comes_true(plan, here, server)


def test_a_changed_prompt_pays_for_all_and_the_plan_says_so_before(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], texts(60))
    run(*here)
    plan = plan_of(here, prompt="Summarize: {text}")
    assert [(one.reason, one.paid, one.requests) for one in plan.partitions] == [
        (Reason.REQUEST_CHANGED, 0, 60)
    ]
    assert plan.rates.observed_replies == 0
    assert_comes_true(plan, here, server, prompt="Summarize: {text}")


def test_of_a_published_partition_only_failed_rows_are_planned(
    here: tuple[str, str], endpoint: Serve
) -> None:
    server = endpoint(fault_rate=0.4, latency_ms=1)
    write(here[0], texts(100))
    failed = sum(report.tally.failed for report in run(*here))
    server.configure(fault_rate=0.0)
    plan = plan_of(here)
    assert [(one.reason, one.requests) for one in plan.partitions] == [(Reason.FAILED_ROWS, failed)]
    assert_comes_true(plan, here, server)
    assert reasons(plan_of(here)) == [Reason.FINISHED]


def test_outputs_that_are_not_ours_or_torn_are_replaced_and_other_columns_cost_nothing(
    here: tuple[str, str], server: Endpoint
) -> None:
    for key in ("ours.parquet", "foreign.parquet", "torn.parquet"):
        write(here[0], texts(20), key)
    run(*here)
    write(here[1], texts(20), "foreign.parquet")
    Path(here[1], "torn.parquet").write_bytes(b"PAR1 and nothing")
    plan = make_plan(job_of(*here, prefix="short"), tokenizer=ENDPOINTS)
    assert reasons(plan) == [Reason.NOT_OURS, Reason.COLUMNS_CHANGED, Reason.NOT_OURS]
    # Of three partitions with equal rows, one has the answers and keeps them to itself.
    assert [one.requests for one in plan.partitions] == [20, 0, 0]
    server.reset()
    run(*here, prefix="short")
    assert server.stats().requests == 20


def test_a_plan_sends_nothing_writes_nothing_and_needs_no_lease(
    folders: tuple[str, str], server: Endpoint
) -> None:
    write(folders[0], texts(10))
    with Lease(locate(folders[1])):
        before = names(folders[1])
        assert plan_of(folders).partitions[0].requests == 10
        assert names(folders[1]) == before
    assert server.stats().requests == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RunOptions(only="day=2/*"), [Reason.LEFT, Reason.NEW, Reason.NEW]),
        (RunOptions(max_partitions=1), [Reason.FINISHED, Reason.NEW, Reason.LEFT]),
        (RunOptions(only="**/b.parquet", max_partitions=5), [Reason.LEFT, Reason.LEFT, Reason.NEW]),
    ],
)
def test_partitions_that_are_not_selected_are_left(
    here: tuple[str, str], server: Endpoint, options: RunOptions, expected: Sequence[Reason]
) -> None:
    write(here[0], texts(10), "day=1/a.parquet")
    run(*here)
    write(here[0], texts(10, 10), "day=2/a.parquet")
    write(here[0], texts(10, 20), "day=2/b.parquet")
    plan = make_plan(job_of(*here), options)
    assert reasons(plan) == expected
    assert sum(one.requests for one in plan.partitions) == 10 * expected.count(Reason.NEW)
    assert server.stats().requests == 10


def test_a_missing_destination_is_reported(bucket: str, server: Endpoint) -> None:
    write(f"{bucket}/in", texts(1))
    with pytest.raises(InputError, match="bucket nowhere-at-all does not exist"):
        make_plan(job_of(f"{bucket}/in", "s3://nowhere-at-all/out"))
    assert server.stats().requests == 0


def test_a_glob_that_matches_nothing_is_refused_with_a_reason(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], texts(1))
    with pytest.raises(InputError, match=r"None of the 1 partitions under .* matches day=\*"):
        make_plan(job_of(*here), RunOptions(only="day=*"))
    assert server.stats().requests == 0


def test_the_plan_already_reports_a_partition_that_cannot_be_summarized(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], texts(5))
    write(here[0], texts(5), "bad.parquet")
    Path(here[0], "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(PreflightError, match=r"bad\.parquet"):
        plan_of(here)
    assert server.stats().requests == 0


def test_outputs_of_another_source_are_reported_before_they_are_replaced(
    here: tuple[str, str], server: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    yesterday, today = f"{here[0]}/day=1", f"{here[0]}/day=2"
    write(yesterday, texts(20))
    write(today, texts(30, first=100))
    run(yesterday, here[1])
    assert reasons(plan_of((yesterday, here[1]))) == [Reason.FINISHED]
    assert "another source" not in caplog.text
    assert reasons(plan_of((today, here[1]))) == [Reason.OTHER_SOURCE]
    find_work(job_of(today, here[1]), RunOptions())
    assert f"1 outputs in {here[1]} were made from another source" in caplog.text
    assert server.stats().requests == 20
