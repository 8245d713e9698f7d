"""Text of the sample partitions: paragraphs of the Python language reference, without markup.

They come from `pydoc_data.topics`, which is part of CPython, so nothing is downloaded. Text and order depend
on the Python version only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pydoc_data import topics
from typing import Final

WORDS_MIN: Final = 30
"""Shorter paragraphs are mostly headings and notes; 30 words leave two sentences or more to summarize."""
LETTERS_SHARE_MIN: Final = 0.74
"""Separates prose from grammar, tables and listings, which have fewer letters; chosen by reading results."""
_NOT_PROSE: Final = ("::=", ">>>", "+--", "==", "|", " = ", "\\")
_NOTICES: Final = ("Changed in version", "Added in version", "Deprecated since", "New in version")
_EMPHASIS: Final = re.compile(r"(?<!\w)(\*{1,2})(\S(?:[^*\n]*\S)?)\1(?!\w)")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of prose on one line.

    Attributes:
        topic: Its topic, as `help()` names it.
        section: Its position in the topic, counted in paragraphs from 0.
        text: At least `WORDS_MIN` words, ending with a sentence.
    """

    topic: str
    section: int
    text: str


def paragraphs() -> list[Paragraph]:
    """All prose paragraphs, each text once, in the order of topic and position."""
    found: dict[str, Paragraph] = {}
    for topic, page in sorted(topics.topics.items()):
        for section, block in enumerate(page.split("\n\n")):
            if _is_prose(block):
                text = _plain(block)
                # Topics overlap: "if" and "compound" contain the same section.
                found.setdefault(text, Paragraph(topic, section, text))
    return list(found.values())


def _is_prose(block: str) -> bool:
    lines = block.strip("\n").splitlines()
    indents = {len(line) - len(line.lstrip()) for line in lines}
    text = " ".join(block.split())
    return (
        len(indents) == 1
        and text[0].isupper()
        and not text.startswith(_NOTICES)
        and text.endswith((".", ".)"))
        and len(text.split()) >= WORDS_MIN
        and not any(mark in text for mark in _NOT_PROSE)
        and sum(letter.isalpha() for letter in text) >= LETTERS_SHARE_MIN * len(text)
    )


def _plain(block: str) -> str:
    return _EMPHASIS.sub(r"\2", " ".join(block.replace("``", "").split()))
