"""Fault specifications, as in `[[fault:KIND:times=2]]`: parsing, and the fault of the n-th request.

The choice depends only on the specification and the request's number, so runs are reproducible. The replies
of each fault are in `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tasks.local.faults import KINDS

MARKER_START = "[[fault:"
_MARKER = re.compile(r"\[\[fault:([^\[\]]+)\]\]")


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One configured fault.

    Attributes:
        kind: One of `tasks.local.faults.KINDS`.
        times: Number of requests that get it before the next ones succeed; None for all requests.
        retry_after_ms: The retry-after of a 429 or 503, in milliseconds; None for the default of the kind.
    """

    kind: str
    times: int | None = None
    retry_after_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> FaultSpec:
        """Parse `KIND[:times=N][:retry-after-ms=N]`.

        Raises:
            ValueError: The kind or an option is unknown, or an option's value is not a whole number.
        """
        kind, *options = text.split(":")
        if kind not in KINDS:
            message = f"unknown fault {kind!r}; known: {', '.join(sorted(KINDS))}"
            raise ValueError(message)
        spec = cls(kind)
        for option in options:
            spec = spec._with(option)
        return spec

    def _with(self, option: str) -> FaultSpec:
        name, _, value = option.partition("=")
        if not (value.isascii() and value.isdigit()):
            message = f"fault option {option!r} needs a whole number, as in times=2"
            raise ValueError(message)
        if name == "times":
            return replace(self, times=int(value))
        if name == "retry-after-ms":
            return replace(self, retry_after_ms=int(value))
        message = f"unknown fault option {name!r}; known: times, retry-after-ms"
        raise ValueError(message)


def markers(text: str) -> list[FaultSpec]:
    """The faults that a text requests, in the order of their markers.

    Raises:
        ValueError: A marker names an unknown fault or option.
    """
    if MARKER_START not in text:
        return []
    return [FaultSpec.parse(found) for found in _MARKER.findall(text)]


def fault_for(specs: Iterable[FaultSpec], number: int) -> FaultSpec | None:
    """The fault of the request with this number, counted from 1; None when it succeeds.

    Specifications apply one after the other: `times=2` then `times=1` covers the first three requests.
    """
    for spec in specs:
        if spec.times is None or number <= spec.times:
            return spec
        number -= spec.times
    return None
