"""The logic of the program; nothing here imports Prefect.

Scripts use ``asummarize`` and ``parallel_summarize``. These are imported when they are first used, so that
the import of one module of this package does not load all others.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.core.api import asummarize, parallel_summarize

__all__ = ["asummarize", "parallel_summarize"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from tasks.core import api  # noqa: PLC0415 - imports the whole package

    return getattr(api, name)
