"""The logic of the project; none of it imports Prefect.

``asummarize`` and ``parallel_summarize`` are for scripts. They are imported at first use, so that importing
one module of this package does not import the others.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.core.api import asummarize, parallel_summarize

__all__ = ["asummarize", "parallel_summarize"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from tasks.core import api  # noqa: PLC0415 - imports Arrow, which not all need

    return getattr(api, name)
