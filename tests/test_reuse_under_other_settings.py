"""Replies are reused with another deployment, API version or limit; truncated ones are requested again."""

from pathlib import Path

import pytest

from tasks.core.errors import DeploymentError
from tasks.core.ledger.segment_names import folder_of
from tasks.core.planning.estimate import make_plan
from tasks.core.planning.partition_status import inspect_source
from tasks.core.planning.plan import Reason
from tasks.local.endpoint_control import Endpoint
from tests.core_runs import interrupt, job_of, read, run, segments_in, tally, texts, write

KEY = "part.parquet"


def test_another_deployment_of_the_same_model_or_another_api_version_causes_no_request(
    here: tuple[str, str], server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_MODEL", "gpt-4o-mini")
    paid = interrupt(here, 60)
    write(here[0], texts(10), "finished.parquet")
    run(f"{here[0]}/finished.parquet", here[1])
    server.reset()
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "another-name")
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-04-01-preview")
    assert {one.partition.key: one.reason for one in inspect_source(job_of(*here)).statuses} == {
        "finished.parquet": Reason.FINISHED,
        KEY: Reason.INTERRUPTED,
    }
    assert tally(*here).reused == len(paid)
    assert server.stats().requests == 60 - len(paid)


def test_only_truncated_rows_are_requested_again_with_a_larger_limit(
    here: tuple[str, str], server: Endpoint
) -> None:
    long = "This sentence is " + "very " * 30 + "long. And more."
    write(here[0], ["Short one. More.", long, "A text. [[fault:content-filter]]"])
    run(*here, max_output_tokens=8)
    assert read(here[1])["summary_status"].to_pylist() == ["ok", "truncated", "filtered"]
    assert server.stats().requests == 3
    for limit in (8, 4):
        assert run(*here, max_output_tokens=limit) == []
    larger = job_of(*here, max_output_tokens=16)
    assert [one.reason for one in inspect_source(larger).statuses] == [Reason.TRUNCATED_ROWS]
    (plan,) = make_plan(larger).partitions
    assert (plan.paid, plan.requests) == (2, 1)
    assert tally(*here, max_output_tokens=16).requests == 1
    counted = tally(*here, max_output_tokens=64)
    assert (counted.requests, counted.reused, counted.ok) == (1, 2, 2)
    assert server.stats().requests == 5
    # The rows are complete now, so no other limit requests them again.
    for limit in (8, 4000):
        assert run(*here, max_output_tokens=limit) == []


def test_a_truncated_row_of_an_interrupted_run_is_requested_again_only_with_a_larger_limit(
    here: tuple[str, str], server: Endpoint
) -> None:
    rows = ["A text. [[fault:length]]", *texts(20)]
    write(here[0], [*rows, "A text. [[fault:unauthorized]]"])
    with pytest.raises(DeploymentError):
        run(*here, max_output_tokens=50)
    paid = sum(map(len, segments_in(here[1])))
    write(here[0], rows)
    for limit, cut in ((50, 0), (51, 1)):
        (plan,) = make_plan(job_of(*here, max_output_tokens=limit)).partitions
        assert (plan.paid, plan.requests) == (paid - cut, 21 - paid + cut)
    server.reset()
    assert tally(*here, max_output_tokens=51).truncated == 1
    assert server.stats().requests == 21 - paid + 1


def test_a_truncated_row_whose_next_request_fails_keeps_its_reply(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], ["This sentence is " + "very " * 50 + "long. And more."])
    run(*here, max_output_tokens=20)
    before = read(here[1])
    server.configure(fault_rate=1.0)
    counted = tally(*here, max_output_tokens=40)
    assert (counted.truncated, counted.failed) == (1, 0)
    assert read(here[1]).equals(before)
    assert [one.reason for one in inspect_source(job_of(*here, max_output_tokens=40)).statuses] == [
        Reason.TRUNCATED_ROWS
    ]


def test_all_segments_of_a_partition_are_in_one_folder_for_any_request(
    here: tuple[str, str], server: Endpoint
) -> None:
    interrupt(here, 10)
    folder = Path(here[1], folder_of(KEY))
    assert {path.parent for path in Path(here[1]).rglob("*.segment")} == {folder}
    assert {path.name[:16] for path in folder.iterdir()} == {job_of(*here).request.fingerprint[:16]}
    assert server.stats().requests
