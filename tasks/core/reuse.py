"""Rows through their account: what is paid for is looked up, only the rest is requested, and kept at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from tasks.core.account import Account
from tasks.core.model import Outcome, Text
from tasks.core.prompt import Request


class RowService(Protocol):
    """Where rows are handed in; the gateway is one."""

    def summarize(
        self, texts: Iterable[Text], keys: Sequence[bytes | None], on_row: Callable[[int, Outcome], object]
    ) -> Sequence[Outcome]:
        """One outcome per row, in the rows' order, each told to ``on_row`` when it is there; blocks."""
        ...


class Texts(Protocol):
    """Rows that can be gone through twice: for their keys, and for what is sent."""

    def __iter__(self) -> Iterator[Text]:
        """Each row's text."""
        ...

    def __len__(self) -> int:
        """How many rows."""
        ...


class AskOnce:
    """A partition's rows, each asked for at most once.

    Args:
        rows: Where rows are summarized.
        request: What all requests have in common.
        account: What is paid for, and where replies are kept.
    """

    def __init__(self, rows: RowService, request: Request, account: Account) -> None:
        self._rows = rows
        self._request = request
        self._account = account

    def summarize(self, texts: Texts) -> list[Outcome]:
        """One outcome per row, in the rows' order.

        Raises:
            StopRunError: No row would be served; what was answered is kept.
            StorageError: Replies cannot be kept, so no more are asked for.
        """
        keys = self._request.row_keys(texts)
        known = self._account.look_up(keys)
        missing = [place for place, outcome in enumerate(known) if outcome is None]
        asked = iter(self._ask(texts, known, [keys[place] for place in missing]) if missing else ())
        return [next(asked) if outcome is None else outcome for outcome in known]

    def _ask(
        self, texts: Texts, known: Sequence[Outcome | None], keys: Sequence[bytes | None]
    ) -> Sequence[Outcome]:
        def keep(place: int, outcome: Outcome) -> None:
            key = keys[place]
            if key is not None and outcome.status.is_answered:
                self._account.append(key, outcome)

        if len(keys) < len(known):
            # Picked here and not while they are pulled: passing over a million known rows would hold up the
            # loop that all partitions share.
            texts = [text for text, outcome in zip(texts, known, strict=True) if outcome is None]
        return self._rows.summarize(_WhileKept(texts, self._account), keys, keep)


class _WhileKept:
    """Texts as they are pulled; an error instead of the next one when replies cannot be kept."""

    def __init__(self, texts: Texts, account: Account) -> None:
        self._texts = texts
        self._account = account

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[Text]:
        for text in self._texts:
            self._account.check()
            yield text
