"""Counts prompt tokens with tiktoken, offline.

LlamaIndex's package contains the two vocabularies that Azure's chat models use. A model that tiktoken does
not list is counted with the newer one, and the tokenizer is marked as assumed.
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

_BUNDLED = ("o200k_base", "cl100k_base")
_DEFAULT = _BUNDLED[0]
_CACHE_VARIABLE = "TIKTOKEN_CACHE_DIR"
_TOKENS_PER_MESSAGE = 4
"""Tokens around the content of each message, including its role. Source: OpenAI's cookbook, "How to count
tokens with tiktoken"; 3 and a role of one token."""
_TOKENS_BEFORE_REPLY = 3
"""Tokens that begin the reply; billed as prompt tokens. The same source."""
_loading = threading.Lock()

Messages = Iterable[tuple[str, str]]
"""Role and content of each message."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts the prompt tokens of a request.

    Attributes:
        name: The vocabulary.
        is_assumed: True when the model's own vocabulary is unknown.
        count: Returns the tokens of a request's messages.
    """

    name: str
    is_assumed: bool
    count: Callable[[Messages], int]


def tokenizer_for(model: str) -> Tokenizer:
    """The tokenizer of a model; for an unknown model, the newest vocabulary."""
    import tiktoken  # noqa: PLC0415 - only plans count tokens; a run starts faster without it

    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        name = ""
    is_assumed = name not in _BUNDLED
    name = _DEFAULT if is_assumed else name
    with _loading:
        encoding = _load(name)

    def count(messages: Messages) -> int:
        contents = (len(encoding.encode_ordinary(content)) for _, content in messages)
        return _TOKENS_BEFORE_REPLY + sum(_TOKENS_PER_MESSAGE + tokens for tokens in contents)

    return Tokenizer(name, is_assumed, count)


def _load(name: str) -> "tiktoken.Encoding":
    """Load a vocabulary from LlamaIndex's package, or from the folder the user has set for tiktoken."""
    import tiktoken  # noqa: PLC0415 - see above

    if _CACHE_VARIABLE in os.environ:
        return tiktoken.get_encoding(name)
    # tiktoken accepts the folder only through this variable, and caches a vocabulary once it is loaded.
    os.environ[_CACHE_VARIABLE] = str(_bundled_folder())
    try:
        return tiktoken.get_encoding(name)
    finally:
        del os.environ[_CACHE_VARIABLE]


def _bundled_folder() -> Path:
    """LlamaIndex's folder of vocabularies; located without importing LlamaIndex, which takes seconds."""
    spec = importlib.util.find_spec("llama_index.core")
    (folder,) = spec.submodule_search_locations or [""] if spec else [""]
    return Path(folder) / "_static" / "tiktoken_cache"
