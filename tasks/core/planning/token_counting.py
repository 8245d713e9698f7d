"""Tokens as the models count them, by tiktoken; nothing is downloaded.

LlamaIndex ships the two vocabularies that Azure's chat models use. A model tiktoken does not know is counted
with the newer of them, and the tokenizer says so.
"""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

_SHIPPED = ("o200k_base", "cl100k_base")
_DEFAULT = _SHIPPED[0]
_CACHE = "TIKTOKEN_CACHE_DIR"
_A_MESSAGE = 4
"""Tokens around each message's content, its role among them ..."""
_A_REPLY = 3
"""... and those that begin the reply: OpenAI's cookbook, "How to count tokens with tiktoken"."""
_loading = threading.Lock()

Messages = Iterable[tuple[str, str]]
"""Role and content of each message."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts the prompt tokens of a request.

    Attributes:
        name: The vocabulary.
        is_assumed: Nobody knows whether it is this model's.
        count: Tokens of a request's messages.
    """

    name: str
    is_assumed: bool
    count: Callable[[Messages], int]


def tokenizer_for(model: str) -> Tokenizer:
    """The tokenizer of a model, or the likeliest one."""
    import tiktoken  # noqa: PLC0415 - only who makes a plan counts tokens

    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        name = ""
    is_assumed = name not in _SHIPPED
    name = _DEFAULT if is_assumed else name
    with _loading:
        encoding = _load(name)

    def count(messages: Messages) -> int:
        return _A_REPLY + sum(_A_MESSAGE + len(encoding.encode_ordinary(content)) for _, content in messages)

    return Tokenizer(name, is_assumed, count)


def _load(name: str) -> "tiktoken.Encoding":
    """A vocabulary from LlamaIndex's package, unless the user has a place of their own for it."""
    import tiktoken  # noqa: PLC0415 - see above

    if _CACHE in os.environ:
        return tiktoken.get_encoding(name)
    # tiktoken takes the folder from the environment alone, and remembers what it has read.
    os.environ[_CACHE] = str(_shipped_folder())
    try:
        return tiktoken.get_encoding(name)
    finally:
        del os.environ[_CACHE]


def _shipped_folder() -> Path:
    """Where LlamaIndex keeps them; found without importing it, which takes seconds."""
    spec = importlib.util.find_spec("llama_index.core")
    (folder,) = spec.submodule_search_locations or [""] if spec else [""]
    return Path(folder) / "_static" / "tiktoken_cache"
