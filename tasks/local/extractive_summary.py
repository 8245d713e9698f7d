"""Extractive summary: the first sentences of a text, word for word.

The result is a prefix of the text, with whitespace normalized; the same text always gives the same result.
`chat_protocol` cuts it to `max_tokens`.
"""

from __future__ import annotations

import re
from typing import Final

SENTENCES_MAX: Final = 2
WORDS_MAX: Final = 60
"""Chosen to be like the replies of a model that is asked for two sentences; not measured."""
CHARACTERS_MAX: Final = WORDS_MAX * 8
"""Limit for scripts without spaces, whose words cannot be counted: eight characters count as one word."""
HEAD_CHARACTERS: Final = 4 * CHARACTERS_MAX
"""Only these characters are processed, so that a megabyte of text takes no longer than a page."""

# A Latin full stop needs a space after it, a CJK one does not; closing quotes belong to the sentence.
_STOP: Final = re.compile(
    r"[.!?\u2026]+[\"'\u2019\u201d\u00bb)\]]*(?= |$)|[\u3002\uff01\uff1f\uff0e]+[\u300d\u300f\u201d]*"
)
_NEVER_ENDS: Final = frozenset(
    (
        *(
            "approx",
            "capt",
            "cf",
            "col",
            "dept",
            "dr",
            "e.g",
            "eg",
            "fig",
            "figs",
            "gen",
            "gov",
            "hon",
            "i.e",
        ),
        *(
            "ie",
            "lt",
            "mr",
            "mrs",
            "ms",
            "no",
            "nos",
            "op",
            "p",
            "pp",
            "prof",
            "rep",
            "rev",
            "sen",
            "sgt",
            "sr",
        ),
        *("st", "v", "viz", "vol", "vs", "bzw", "nr", "u.a", "z.b"),
    )
)
_INITIAL: Final = re.compile(r"[^\W\d_](?:\.[^\W\d_])*")


def leading_sentences(text: str) -> str:
    """Summarize a text by its first sentences.

    Args:
        text: Any text; runs of whitespace count as one space.

    Returns:
        At most two sentences and about 60 words, without the last sentence if there are others. A first
        sentence that is longer is cut after a word. Empty for a text without words.
    """
    squeezed = " ".join(text.lstrip()[:HEAD_CHARACTERS].split())
    end = sentences = 0
    for stop in _STOP.finditer(squeezed):
        if not _ends_sentence(squeezed, stop):
            continue
        is_whole_text = sentences > 0 and stop.end() == len(squeezed)
        if is_whole_text or _too_long(squeezed, stop.end()):
            break
        end = stop.end()
        sentences += 1
        if sentences == SENTENCES_MAX:
            break
    return squeezed[:end] if end else _leading_words(squeezed)


def _ends_sentence(text: str, stop: re.Match[str]) -> bool:
    """Whether a full stop ends a sentence, not an abbreviation, an initial or a parenthesis."""
    following = text[stop.end() : stop.end() + 2].lstrip()[:1]
    if following.islower():
        return False
    if stop.group()[0] != ".":
        return True
    word = text[text.rfind(" ", 0, stop.start()) + 1 : stop.start()].lstrip("\"'(\u201c\u201e\u00ab[")
    return word.lower() not in _NEVER_ENDS and not (following and _INITIAL.fullmatch(word))


def _too_long(text: str, end: int) -> bool:
    return end > CHARACTERS_MAX or text.count(" ", 0, end) >= WORDS_MAX


def _leading_words(text: str) -> str:
    words = " ".join(text.split(" ", WORDS_MAX)[:WORDS_MAX])
    if len(words) <= CHARACTERS_MAX:
        return words
    cut = words.rfind(" ", 0, CHARACTERS_MAX + 1)
    return words[: cut if cut > 0 else CHARACTERS_MAX]
