"""The public names of ``summarize_parquet``, the one package that scripts, flows and documentation import.

The build makes this folder the root of that package, with ``flows`` and ``tasks`` below it
(``hatch_build.py``). A name's module is imported at its first use: only what runs in Prefect loads Prefect.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.summarize import summarize_parquet as summarize_parquet
    from tasks.core.api import asummarize as asummarize
    from tasks.core.api import parallel_summarize as parallel_summarize
    from tasks.core.model import Outcome as Outcome
    from tasks.core.model import Status as Status
    from tasks.core.options import DEFAULT_PROMPT as DEFAULT_PROMPT
    from tasks.core.options import LimitOptions as LimitOptions
    from tasks.core.options import ModelOptions as ModelOptions
    from tasks.core.options import OutputOptions as OutputOptions
    from tasks.core.options import PriceOptions as PriceOptions
    from tasks.core.options import RunOptions as RunOptions
    from tasks.core.reporting import archive
    from tasks.core.reporting.report import RunReport as RunReport
    from tasks.core.run.direct import run_directly as run_directly
    from tasks.core.run.spec import RunSpec as RunSpec

    read_report = archive.read

_PLACES = {
    "summarize_parquet": "flows.summarize:summarize_parquet",
    "asummarize": "tasks.core.api:asummarize",
    "parallel_summarize": "tasks.core.api:parallel_summarize",
    "Outcome": "tasks.core.model:Outcome",
    "Status": "tasks.core.model:Status",
    "DEFAULT_PROMPT": "tasks.core.options:DEFAULT_PROMPT",
    "LimitOptions": "tasks.core.options:LimitOptions",
    "ModelOptions": "tasks.core.options:ModelOptions",
    "OutputOptions": "tasks.core.options:OutputOptions",
    "PriceOptions": "tasks.core.options:PriceOptions",
    "RunOptions": "tasks.core.options:RunOptions",
    "read_report": "tasks.core.reporting.archive:read",
    "RunReport": "tasks.core.reporting.report:RunReport",
    "run_directly": "tasks.core.run.direct:run_directly",
    "RunSpec": "tasks.core.run.spec:RunSpec",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        message = f"module 'summarize_parquet' has no attribute {name!r}"
        raise AttributeError(message)
    return resolve_name(_PLACES[name])
