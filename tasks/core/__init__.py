"""The nouns: everything this project knows, none of it importing Prefect.

``asummarize`` and ``parallel_summarize`` are the front door for scripts. They are looked up on first use,
so importing one room of this package does not load the others.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.core.api import asummarize, parallel_summarize

__all__ = ["asummarize", "parallel_summarize"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from tasks.core import api  # noqa: PLC0415 - the front door loads what is behind it when it is opened

    return getattr(api, name)
