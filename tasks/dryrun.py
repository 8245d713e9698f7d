"""A dry run: makes and publishes the plan of a run; takes no lease, writes nothing to the destination."""

import time

from tasks.core.planning.plan import Reason
from tasks.core.reporting.report import PartitionReport, PartitionState, RunReport
from tasks.core.run.spec import RunSpec
from tasks.plan import plan_run

_STATES = {Reason.FINISHED: PartitionState.SKIPPED, Reason.LEFT: PartitionState.LEFT}


def dry_run(spec: RunSpec) -> RunReport:
    """Make the plan and publish it; sends no request."""
    began_s = time.monotonic()
    plan = plan_run(spec)
    return RunReport(
        source=plan.source,
        destination=plan.destination,
        partitions=tuple(
            PartitionReport(key=one.key, state=_STATES.get(one.reason, PartitionState.PLANNED))
            for one in plan.partitions
        ),
        left_out=plan.left_out,
        seconds=time.monotonic() - began_s,
        price=plan.rates.price,
        orphans=plan.orphans,
        plan=plan,
    )
