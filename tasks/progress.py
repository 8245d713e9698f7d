"""How far a run is, on its page in Prefect."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.runtime import flow_run

from tasks.core.monitor import Monitor
from tasks.core.periodic import call_every
from tasks.core.pricing import Price
from tasks.core.reporting.rendering import progress_line

_PERIOD_S = 2.0
_SNAPSHOTS_KEPT = 16
"""The rate is that of the last half minute."""


@contextmanager
def showing_progress(monitor: Monitor, price: Price | None) -> Iterator[None]:
    """Keep a progress artifact on the run's page up to date, from a thread of its own.

    Args:
        monitor: Of the run.
        price: What tokens cost; None when nobody knows.
    """
    snapshots, run_id = deque([monitor.snapshot], _SNAPSHOTS_KEPT), UUID(flow_run.id)
    shown: list[UUID] = []
    with get_client(sync_client=True) as client:

        def show() -> None:
            snapshots.append(monitor.snapshot)
            percent, line = snapshots[-1].percent, progress_line(snapshots[-1], snapshots[0], price)
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
