"""Real prose that needs no download: the paragraphs of Python's own language reference.

Here: picking paragraphs out of `pydoc_data.topics`, which ships with CPython, and taking their markup off.
Not here: tables. Invariant: the order and the text depend on the Python version only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pydoc_data import topics
from typing import Final

WORDS_MIN: Final = 30
# Grammar, tables and listings have fewer letters than prose.
LETTERS_SHARE_MIN: Final = 0.74
_NOT_PROSE: Final = ("::=", ">>>", "+--", "==", "|", " = ", "\\")
_NOTICES: Final = ("Changed in version", "Added in version", "Deprecated since", "New in version")
_EMPHASIS: Final = re.compile(r"(?<!\w)(\*{1,2})(\S(?:[^*\n]*\S)?)\1(?!\w)")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of prose on one line.

    Attributes:
        topic: The topic it stands in, as `help()` names it.
        section: Its place in the topic, counted in blocks from 0.
        text: At least `WORDS_MIN` words, ending with a sentence.
    """

    topic: str
    section: int
    text: str


def paragraphs() -> list[Paragraph]:
    """All prose paragraphs, each text once, by topic and place."""
    found: dict[str, Paragraph] = {}
    for topic, page in sorted(topics.topics.items()):
        for section, block in enumerate(page.split("\n\n")):
            if _is_prose(block):
                text = _plain(block)
                # Topics repeat each other: the same section stands under "if" and under "compound".
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
