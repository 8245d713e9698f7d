"""Names from outside as people see them: in a log, a message, a report.

A key may hold what ends a line, moves a terminal's cursor or turns the direction of writing; shown raw, it
could tell what never happened. Data, such as the JSON of a report, holds keys as they are.
"""

import unicodedata

_NOT_SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories: controls, formats, lone surrogates, line and paragraph separators."""


def printable(name: str) -> str:
    r"""The name in one line of visible characters: a line break as ``\n``, and so on."""
    if name.isprintable():
        return name
    return "".join(_escaped(one) if unicodedata.category(one) in _NOT_SHOWN else one for one in name)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
