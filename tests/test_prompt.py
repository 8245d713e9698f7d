from dataclasses import replace

from tasks.core.prompt import Prompt, Request

REQUEST = Request(
    deployment="d",
    model="m",
    api_version="v",
    prompt=Prompt("Be brief."),
    temperature=0.0,
    max_output_tokens=10,
)


def test_a_prompt_without_a_place_for_the_text_is_the_system_message() -> None:
    assert Prompt("Be brief.").messages == (("system", "Be brief."), ("user", "{text}"))


def test_a_prompt_with_a_place_for_the_text_is_the_one_message() -> None:
    assert Prompt("Shorten: {text}").messages == (("user", "Shorten: {text}"),)


def test_the_fingerprint_changes_with_everything_that_decides_a_reply() -> None:
    changed = [
        REQUEST,
        replace(REQUEST, deployment="e"),
        replace(REQUEST, model="n"),
        replace(REQUEST, api_version="w"),
        replace(REQUEST, prompt=Prompt("Be brief!")),
        replace(REQUEST, temperature=0.1),
        replace(REQUEST, max_output_tokens=11),
    ]
    assert len({request.fingerprint for request in changed}) == len(changed)
    assert REQUEST.fingerprint == replace(REQUEST).fingerprint


def test_the_fingerprint_tells_nothing_of_the_prompt() -> None:
    assert len(REQUEST.fingerprint) == 32
    assert int(REQUEST.fingerprint, 16)
