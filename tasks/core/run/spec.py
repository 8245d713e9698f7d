"""What a person chose for a run, as a small picklable value that any process can start from."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.core.options import (
    DEFAULT_PROMPT,
    LimitOptions,
    ModelOptions,
    OutputOptions,
    PriceOptions,
    RunOptions,
)


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What decides a run, except secrets; a process that gets it builds its own gateway and ledger.

    No secret is in it, so it may be pickled, logged and stored. A process that works on the run reads the key
    from its own environment, or from the Secret block that the settings name, or it uses Entra ID. The
    credentials of the store come from that process's environment, too.

    Attributes:
        source: Where the partitions are, as a person wrote it: a prefix, a glob or one file.
        destination: Where enriched partitions are published.
        text_column: The column to summarize.
        prompt: The instruction.
        model: What is requested of the model.
        limits: Limits on requests, cost and concurrency. Each process that builds a gateway gets all of them:
            split them before handing a spec to several processes.
        output: What the enriched partitions look like, and which are published.
        run: Which partitions the run takes.
        prices: Prices of tokens, if not the list prices.
        settings: Settings without secrets, which take precedence over the environment of the process, so that
            all processes send to the same deployment; see ``Settings.without_secrets``.
        run_id: Identifies the run; Prefect's id of the flow run, if there is one.
    """

    source: str
    destination: str
    text_column: str
    prompt: str = field(default=DEFAULT_PROMPT, repr=False)
    model: ModelOptions = ModelOptions()
    limits: LimitOptions = LimitOptions()
    output: OutputOptions = OutputOptions()
    run: RunOptions = RunOptions()
    prices: PriceOptions = PriceOptions()
    settings: Mapping[str, str] = field(default_factory=dict)
    run_id: str = field(default_factory=_new_id)
