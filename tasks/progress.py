"""The progress of a run, as an artifact on its page in Prefect."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.runtime import flow_run

from tasks.core.periodic import call_every
from tasks.core.reporting.rendering import progress_line
from tasks.core.run.monitor import Monitor

_PERIOD_S = 2.0
"""Between updates of the artifact. Each is a request to Prefect's server and a row of its history of events;
Prefect's page asks for news every few seconds, so more frequent updates would not be seen. Not measured."""
_SNAPSHOTS_KEPT = 16
"""The rate shown is that of these: the last half minute. Fewer make it jump with every slow reply, more show
a change of the rate late. Not measured."""


@contextmanager
def showing_progress(monitor: Monitor) -> Iterator[None]:
    """Keep a progress artifact on the run's page up to date, from a thread of its own.

    Args:
        monitor: Of the run.
    """
    snapshots, run_id = deque([monitor.snapshot], _SNAPSHOTS_KEPT), UUID(flow_run.id)
    shown: list[UUID] = []
    with get_client(sync_client=True) as client:

        def show() -> None:
            snapshots.append(monitor.snapshot)
            percent, line = snapshots[-1].percent, progress_line(snapshots[-1], snapshots[0], monitor.price)
            if shown:
                client.update_artifact(shown[0], ArtifactUpdate(data=percent, description=line))
            else:
                shown.append(_create(client, run_id, percent, line))

        with call_every(_PERIOD_S, show):
            yield


def _create(client: SyncPrefectClient, run_id: UUID, percent: float, line: str) -> UUID:
    """A progress artifact; it has no key, since it belongs to this run alone."""
    progress = ArtifactCreate(type="progress", data=percent, description=line, flow_run_id=run_id)
    return client.create_artifact(progress).id
