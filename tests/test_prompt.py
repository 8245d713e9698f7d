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
        replace(REQUEST, model="n"),
        replace(REQUEST, prompt=Prompt("Be brief!")),
        replace(REQUEST, prompt=Prompt("Be brief.{text}")),
        replace(REQUEST, temperature=0.1),
    ]
    assert len({request.fingerprint for request in changed}) == len(changed)
    assert len({request.row_keys(["a"])[0] for request in changed}) == len(changed)
    assert REQUEST.fingerprint == replace(REQUEST).fingerprint


def test_neither_the_limit_nor_the_way_to_the_model_changes_a_row_s_key() -> None:
    for same in ({"deployment": "e"}, {"api_version": "w"}, {"max_output_tokens": 11}, {"temperature": 0}):
        other = replace(REQUEST, **same)
        assert other.fingerprint == REQUEST.fingerprint
        assert other.row_keys(["a"]) == REQUEST.row_keys(["a"])


def test_the_fingerprint_tells_nothing_of_the_prompt() -> None:
    assert len(REQUEST.fingerprint) == 32
    assert int(REQUEST.fingerprint, 16)


def test_a_request_is_charged_its_prompt_by_length_and_the_longest_reply() -> None:
    assert REQUEST.charged_tokens("12345") == 3 + 2 + 10
    assert REQUEST.charged_tokens("ééé") == 3 + 2 + 10
    assert REQUEST.charged_tokens("") == 3 + 10
    # However the prompt is split at the text's place, not less than its whole length.
    twice = replace(REQUEST, prompt=Prompt("Say {text}, not {text}."))
    assert twice.charged_tokens("abcd") >= len("Say abcd, not abcd.") / 4 + 10
