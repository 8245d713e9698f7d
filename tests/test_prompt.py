from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.model import Outcome, Status
from tasks.core.prompt import Prompt, RenderedRow, Request
from tests.textmodels import row_of

REQUEST = Request(
    model="m",
    prompt=Prompt("Be brief."),
    temperature=0.0,
    max_output_tokens=10,
)


def test_a_prompt_without_a_placeholder_is_the_system_message() -> None:
    assert Prompt("Be brief.").messages == (("system", "Be brief."), ("user", "{text}"))


def test_a_prompt_with_a_placeholder_is_the_only_message() -> None:
    assert Prompt("Shorten: {text}").messages == (("user", "Shorten: {text}"),)


def test_the_fingerprint_changes_with_everything_that_decides_a_reply() -> None:
    changed = [
        REQUEST,
        replace(REQUEST, model="n"),
        replace(REQUEST, prompt=Prompt("Be brief!")),
        replace(REQUEST, prompt=Prompt("Be brief.{text}")),
        replace(REQUEST, temperature=0.1),
    ]
    assert len({request.fingerprint for request in changed}) == len(changed)
    assert len({request.row_keys(["a"])[0] for request in changed}) == len(changed)
    assert REQUEST.fingerprint == replace(REQUEST).fingerprint


def test_the_limit_does_not_change_a_row_s_key() -> None:
    for other in (replace(REQUEST, max_output_tokens=11), replace(REQUEST, temperature=0)):
        assert other.fingerprint == REQUEST.fingerprint
        assert other.row_keys(["a"]) == REQUEST.row_keys(["a"])


def test_the_fingerprint_does_not_contain_the_prompt() -> None:
    assert len(REQUEST.fingerprint) == 32
    assert int(REQUEST.fingerprint, 16)


def charged(text: str, request: Request = REQUEST) -> float:
    return request.quota_tokens(row_of(text, request))


def test_the_quota_is_charged_by_the_prompts_length_and_the_longest_reply() -> None:
    assert charged("12345") == 4 + 10
    assert charged("ééé") == 4 + 10
    twice = replace(REQUEST, prompt=Prompt("Say {text}, not {text}."))
    assert charged("abcd", twice) == 5 + 10


@given(
    st.text(), st.sampled_from(["Be brief.", "Say {text}, not {text}.", "{text}", "Für {text} \N{SNOWMAN}"])
)
def test_a_row_is_rendered_by_the_prompt_and_its_size_is_that_of_all_contents(
    text: str, instruction: str
) -> None:
    request = replace(REQUEST, prompt=Prompt(instruction))
    row = request.render(text)
    if not text.strip():
        assert row == Outcome(Status.EMPTY)
        return
    assert isinstance(row, RenderedRow)
    assert row.messages == request.prompt.messages_of(text)
    assert row.size_bytes == sum(len(content.encode()) for _, content in row.messages)
    assert [row.key] == request.row_keys([text])


@pytest.mark.parametrize("text", [b"\xff", 7, "\ud800"])
def test_a_text_that_cannot_be_sent_is_a_failed_row_and_its_error_does_not_quote_it(text: object) -> None:
    outcome = REQUEST.render(text)
    assert isinstance(outcome, Outcome)
    assert outcome.status is Status.FAILED
    assert "ud800" not in (outcome.error or "")
