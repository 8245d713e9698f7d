"""The workers of this process, by run: a task finds its worker here, so that no live object is its argument.

In the driver's process that is the driver's worker, which the driver opens and closes. In another process
the first task of a run opens a worker from the ``RunSpec``, tasks that run at the same time share it, and the
last one closes it, which stores every reply. The results stay, for retries.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tasks.core.planning.grouping import Group
from tasks.core.reporting.results import Results
from tasks.core.reporting.tally import Bill
from tasks.core.run.group_report import GroupReport
from tasks.core.run.spec import RunSpec
from tasks.core.run.worker import OnPublished, Worker, new_worker
from tasks.core.settings import Settings

LoadSettings = Callable[..., Settings]
"""Takes the settings of a spec as keywords; returns them with the key."""


class _Entry:
    """What this process holds of one run."""

    def __init__(self, worker: Worker | None = None) -> None:
        self.id = "" if worker else uuid.uuid4().hex
        self.worker = worker
        self.users = 1 if worker else 0
        self._results = Results()
        self._closed_bill = Bill()
        self._opened = ExitStack()

    @property
    def bill(self) -> Bill:
        """All requests of this process for the run."""
        return self._closed_bill + self.worker.gateway.bill if self.worker else self._closed_bill

    def acquire(self, spec: RunSpec, load_settings: LoadSettings) -> Worker:
        """Open the worker, unless it is open."""
        worker = self.worker
        if worker is None:
            worker = replace(new_worker(spec, load_settings(**spec.settings)), results=self._results)
            with ExitStack() as stack:
                stack.enter_context(worker.ledger)
                stack.enter_context(worker.gateway)
                self._opened = stack.pop_all()
            self.worker = worker
        self.users += 1
        return worker

    def release(self) -> None:
        """Close the worker after its last user."""
        self.users -= 1
        if self.users == 0 and self.worker:
            try:
                self._opened.close()
            finally:
                self._closed_bill = self.bill
                self.worker = None


_entries: dict[str, _Entry] = {}
_lock = threading.Lock()


@contextmanager
def registered(worker: Worker) -> Iterator[None]:
    """Let the tasks of this process use the driver's worker; to be left when they have ended."""
    run_id = worker.spec.run_id
    with _lock:
        _entries[run_id] = _Entry(worker)
    try:
        yield
    finally:
        with _lock:
            del _entries[run_id]


def summarize_group(
    group: Group,
    spec: RunSpec,
    load_settings: LoadSettings = Settings.from_environment,
    on_published: OnPublished = lambda _: None,
) -> GroupReport:
    """Work on a group of partitions in this process.

    Args:
        group: One partition, or a few small ones.
        spec: The run.
        load_settings: Reads the settings with the key, if this process has to open a worker.
        on_published: Called with the report of each partition that is published.

    Returns:
        The results; a partition that failed raises nothing.

    Raises:
        PipelineError: No worker could be opened or closed in this process.
    """
    with _lock:
        entry = _entry_of(spec)
        worker = entry.acquire(spec, load_settings)
    try:
        results = worker.summarize(group, on_published)
    finally:
        with _lock:
            entry.release()
    return GroupReport(results, entry.id, entry.bill if entry.id else Bill())


def _entry_of(spec: RunSpec) -> _Entry:
    """The entry of a run, called with the lock; those of other runs that have no users are removed."""
    if spec.run_id not in _entries:
        for run_id in [run_id for run_id, entry in _entries.items() if not entry.users]:
            del _entries[run_id]
        _entries[spec.run_id] = _Entry()
    return _entries[spec.run_id]
