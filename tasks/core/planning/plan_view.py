"""Renders a plan as a terminal table, markdown or JSON.

Tables list the first selected partitions and the totals; JSON lists all partitions. Never shows a row's text.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.core.escaping import printable
from tasks.core.planning.plan import PartitionPlan, Reason, RunPlan
from tasks.core.planning.sampling import Range
from tasks.core.storage.left_out_files import describe_left_out

_MAX_PARTITIONS_SHOWN = 30
_MAX_KEYS_SHOWN = 10
"""Limits of tables. Longer ones would hide the totals on a terminal; JSON is complete. Not measured."""
_COLUMNS = ("partition", "why", "rows", "paid", "equal", "to request", "tokens in", "USD")


def headline(plan: RunPlan) -> str:
    """The plan in one line."""
    selected = plan.selected
    if not selected:
        finished = _count(plan, Reason.FINISHED)
        return f"Nothing to do: {finished} partitions are finished and unchanged{_left(plan)}"
    requests = sum(partition.requests for partition in selected)
    return (
        f"{len(selected)} of {len(plan.partitions)} partitions would run, {requests:,} requests{_left(plan)}"
    )


def facts(plan: RunPlan) -> list[tuple[str, str]]:
    """The plan's totals as label and value, in the order they are shown."""
    selected = plan.selected
    reasons = Counter(partition.reason for partition in plan.partitions)
    shown = [
        ("partitions", ", ".join(f"{reasons[one]:,} {one}" for one in Reason if reasons[one])),
        ("left out", describe_left_out(plan.left_out)),
    ]
    if selected:
        shown += [
            ("rows", _rows(selected)),
            (
                "requests",
                f"{sum(partition.requests for partition in selected):,}, plus retries of failed requests",
            ),
            ("prompt tokens", _span(plan.prompt_tokens(*selected), "{:,.0f}")),
            ("", _prompt_basis(plan)),
            ("completion tokens", _span(plan.completion_tokens(*selected), "{:,.0f}")),
            ("", _completion_basis(plan)),
            ("cost", _cost(plan)),
        ]
    if plan.orphans:
        shown.append(("orphaned outputs", _orphans(plan, plan.orphans)))
    return [*shown, ("output", plan.destination)]


def to_table(plan: RunPlan) -> RenderableType:
    """The plan as a table for a terminal."""
    listing = Table(title=f"Plan for {plan.source}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        numeric = name not in {"partition", "why"}
        listing.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for cells in _lines(plan):
        # As Text, since rich would interpret a key such as [b] as markup.
        listing.add_row(*map(Text, cells))
    totals = Table(show_header=False)
    totals.add_column(style="bold", no_wrap=True)
    totals.add_column(overflow="fold")
    for label, value in facts(plan):
        totals.add_row(label, Text(value))
    parts = [listing, totals] if plan.selected else [totals]
    return Group(*parts, Text(f"{headline(plan)}."))


def to_markdown(plan: RunPlan) -> str:
    """The plan as markdown, for Prefect's page."""
    lines = ["# Plan", "", headline(plan), "", "| | |", "|---|---|"]
    lines += [f"| {label} | {_cell(value)} |" for label, value in facts(plan)]
    if plan.selected:
        lines += ["", f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * 2}{'---:|' * (len(_COLUMNS) - 2)}"]
        lines += [f"| {' | '.join(map(_cell, cells))} |" for cells in _lines(plan)]
    return "\n".join(lines)


def to_json(plan: RunPlan) -> str:
    """The plan as JSON: every partition, and the totals."""
    selected = plan.selected
    counts = ("rows", "empty", "paid", "equal_in_partition", "equal_in_run", "requests", "sampled")
    totals = {name: sum(getattr(partition, name) for partition in selected) for name in counts}
    content: dict[str, Any] = {
        "source": plan.source,
        "destination": plan.destination,
        "headline": headline(plan),
        "left_out": asdict(plan.left_out),
        "rates": asdict(plan.rates),
        "totals": {
            "partitions": len(plan.partitions),
            "running": len(selected),
            **totals,
            **_tokens_and_cost(plan, *selected),
        },
        "gone": plan.orphans,
        "prunes": plan.prunes,
        "partitions": [
            {"key": one.key, "why": one.reason, "runs": one.reason.is_selected}
            | {name: getattr(one, name) for name in counts}
            | _tokens_and_cost(plan, one)
            for one in plan.partitions
        ],
    }
    return json.dumps(content, indent=2)


def _tokens_and_cost(plan: RunPlan, *partitions: PartitionPlan) -> dict[str, Any]:
    cost = plan.cost_usd(*partitions)
    return {
        "prompt_tokens": asdict(plan.prompt_tokens(*partitions)),
        "completion_tokens": asdict(plan.completion_tokens(*partitions)),
        "cost_usd": None if cost is None else asdict(cost),
    }


def _lines(plan: RunPlan) -> list[tuple[str, ...]]:
    """The first selected partitions, the sum of those not shown, and the sum of all."""
    shown, others = plan.selected[:_MAX_PARTITIONS_SHOWN], plan.selected[_MAX_PARTITIONS_SHOWN:]
    lines = [(printable(one.key), str(one.reason), *_numbers(plan, one)) for one in shown]
    if others:
        lines.append((f"and {len(others):,} more", "", *_numbers(plan, *others)))
    return [*lines, ("total", "", *_numbers(plan, *plan.selected))]


def _numbers(plan: RunPlan, *partitions: PartitionPlan) -> tuple[str, ...]:
    def total(count: Callable[[PartitionPlan], int]) -> str:
        return f"{sum(map(count, partitions)):,}"

    cost = plan.cost_usd(*partitions)
    return (
        total(lambda one: one.rows or 0),
        total(lambda one: one.paid),
        total(lambda one: one.equal_in_partition + one.equal_in_run),
        total(lambda one: one.requests),
        f"{plan.prompt_tokens(*partitions).likely:,.0f}",
        "?" if cost is None else f"{cost.likely:,.4f}",
    )


def _rows(selected: tuple[PartitionPlan, ...]) -> str:
    counts = {
        "empty": sum(one.empty for one in selected),
        "paid for": sum(one.paid for one in selected),
        "equal to a row of the same partition": sum(one.equal_in_partition for one in selected),
        "equal to a row of another": sum(one.equal_in_run for one in selected),
        "to request": sum(one.requests for one in selected),
    }
    shown = ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)
    return f"{sum(one.rows or 0 for one in selected):,} ({shown or 'none'})"


def _prompt_basis(plan: RunPlan) -> str:
    rates, selected = plan.rates, plan.selected
    sampled, requests = sum(one.sampled for one in selected), sum(one.requests for one in selected)
    assumed = ", which may differ from this model's own vocabulary" if rates.tokenizer_is_assumed else ""
    if sampled == requests:
        return f"every row counted with {rates.tokenizer}{assumed}"
    return (
        f"{sampled:,} of these rows, picked by hash, counted with {rates.tokenizer}{assumed}; "
        "low and high are three standard errors away"
    )


def _completion_basis(plan: RunPlan) -> str:
    rates = plan.rates
    bounds = f"low: 0, high: max_output_tokens {rates.max_output_tokens:,} each"
    if rates.observed_replies:
        mean = f"{rates.completion_tokens:.0f} each, the mean of {rates.observed_replies:,} earlier replies"
    else:
        mean = (
            f"{rates.completion_tokens:.0f} each, a guess, because there is no earlier reply to this request"
        )
    return f"{mean}; {bounds}"


def _cost(plan: RunPlan) -> str:
    cost = plan.cost_usd(*plan.selected)
    if cost is None:
        return "unknown: the model is not in the price list, set --input- and --output-usd-per-million"
    return f"{_span(cost, '{:,.4f}')} USD by the price list"


def _orphans(plan: RunPlan, keys: tuple[str, ...]) -> str:
    effect = "would be removed" if plan.prunes else "kept, prune removes them"
    more = f" and {len(keys) - _MAX_KEYS_SHOWN:,} more" if len(keys) > _MAX_KEYS_SHOWN else ""
    shown = ", ".join(map(printable, keys[:_MAX_KEYS_SHOWN]))
    return f"{len(keys):,} whose source partition was deleted ({effect}): {shown}{more}"


def _span(numbers: Range, form: str) -> str:
    low, likely, high = map(form.format, (numbers.low, numbers.likely, numbers.high))
    if low == high:
        return likely
    return f"about {likely} ({low} to {high})"


def _count(plan: RunPlan, reason: Reason) -> int:
    return sum(partition.reason is reason for partition in plan.partitions)


def _left(plan: RunPlan) -> str:
    left = _count(plan, Reason.LEFT)
    return f", {left:,} left for another run" if left else ""


def _cell(text: str) -> str:
    """Escape text for one cell of a markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
