"""The local endpoint's summaries: the first sentences of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.local.extractive_summary import CHARACTERS_MAX, WORDS_MAX, leading_sentences
from tests.endpoint_requests import LEAD, PROSE


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (PROSE, LEAD),
        ("", ""),
        (" \n ", ""),
        ("No stop at all", "No stop at all"),
        ("Only one sentence.", "Only one sentence."),
        ("First. Second.", "First."),
        ("Line one\ngoes on. Line two. Line three.", "Line one goes on. Line two."),
        ('He said "Stop!" and left. She stayed. End.', 'He said "Stop!" and left. She stayed.'),
        ("The U.S. Senate met. It voted. It left.", "The U.S. Senate met. It voted."),
        ("吾輩は猫である。名前はまだ無い。どこで生れたか。", "吾輩は猫である。名前はまだ無い。"),
        ("¿Qué tal? ¡Muy bien! Adiós.", "¿Qué tal? ¡Muy bien!"),
        ("Version 3.14 is out. See No. 5 below. End.", "Version 3.14 is out. See No. 5 below."),
    ],
)
def test_the_summary_is_the_first_sentences(text: str, summary: str) -> None:
    assert leading_sentences(text) == summary


@given(st.text(st.sampled_from("ab Zé.!? \n。語\u00a0\"'1"), max_size=900) | st.text())
def test_the_summary_is_short_and_has_only_words_of_the_text(text: str) -> None:
    summary = leading_sentences(text)
    assert " ".join(text.split()).startswith(summary)
    assert bool(summary) == bool(text.split())
    assert len(summary) <= CHARACTERS_MAX
    assert len(summary.split()) <= WORDS_MAX
