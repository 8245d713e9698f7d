import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core import asummarize, parallel_summarize
from tasks.core.errors import DeploymentError, InputError, SettingsError
from tasks.core.model import Outcome, Status
from tests.conftest import Serve


def test_texts_come_back_in_order_with_no_more_than_four_in_flight(
    endpoint: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    server = endpoint(latency_ms=20, sigma=1.5)
    texts = [f"This is number {i}. And more." for i in range(60)]
    outcomes = asyncio.run(parallel_summarize(texts))
    assert [outcome.text for outcome in outcomes] == [f"This is number {i}." for i in range(60)]
    assert server.stats().peak_in_flight == 4
    assert "60/60" in capfd.readouterr().err


def test_one_text_has_one_outcome_and_its_length_can_be_set(endpoint: Serve) -> None:
    server = endpoint(record_bodies=True)
    outcome = asyncio.run(asummarize("One sentence. Another sentence.", max_tokens=50))
    assert (outcome.status, outcome.text) == (Status.OK, "One sentence.")
    assert server.bodies[0].body["max_tokens"] == 50
    assert server.bodies[0].body["temperature"] == 0


def test_it_can_be_awaited_twice_in_one_loop_and_again_in_another(endpoint: Serve) -> None:
    server = endpoint()

    async def twice() -> list[Outcome]:
        first = await parallel_summarize(["A text. More."], progress=False)
        return first + await parallel_summarize(iter(["A text. More."]), progress=False)

    for _ in range(2):
        assert [outcome.status for outcome in asyncio.run(twice())] == [Status.OK, Status.OK]
    assert server.stats().requests == 4


def test_a_bad_row_is_one_bad_row_and_a_wrong_key_is_an_error(endpoint: Serve) -> None:
    endpoint()
    outcomes = asyncio.run(
        parallel_summarize(["Good text. More.", "[[fault:content-filter]]", None], progress=False)
    )
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FILTERED, Status.EMPTY]
    endpoint(api_key="another")
    with pytest.raises(DeploymentError, match="AZURE_OPENAI_API_KEY"):
        asyncio.run(asummarize("A text."))


def test_without_settings_it_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(SettingsError, match="AZURE_OPENAI_ENDPOINT is not set"):
        asyncio.run(asummarize("A text."))


def test_importing_it_loads_neither_prefect_nor_llamaindex() -> None:
    code = (
        "import sys; from tasks.core import asummarize, parallel_summarize;"
        "assert not {'prefect', 'llama_index', 'openai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)


def test_arguments_that_would_lose_or_overspend_are_refused(endpoint: Serve) -> None:
    server = endpoint()
    for max_concurrent, max_tokens in ((0, 1), (-1, 1), (1, 0)):
        with pytest.raises(InputError, match="at least 1"):
            asyncio.run(parallel_summarize(["A text."], max_concurrent, max_tokens=max_tokens))
    with pytest.raises(InputError, match="one string"):
        asyncio.run(parallel_summarize("A text.", progress=False))
    assert server.stats().requests == 0


def test_what_is_not_a_text_is_one_failed_row(endpoint: Serve) -> None:
    endpoint()
    texts: list[Any] = ["A good text. More.", 5, ["x"]]
    outcomes = asyncio.run(parallel_summarize(texts, progress=False))
    assert [outcome.error for outcome in outcomes] == [None, "the text is a int", "the text is a list"]


def test_no_proxy_comes_between_this_machine_and_an_endpoint_on_it(
    endpoint: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert asyncio.run(asummarize("A text. More.")).status is Status.OK


def test_a_key_that_is_in_prefects_block_cannot_be_had_without_prefect(
    endpoint: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint()
    monkeypatch.setenv("AZURE_OPENAI_API_KEY_BLOCK", "azure-key")
    assert asyncio.run(asummarize("A text. More.")).status is Status.OK
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    with pytest.raises(SettingsError, match="AZURE_OPENAI_API_KEY_BLOCK names a Secret block"):
        asyncio.run(asummarize("A text. More."))
