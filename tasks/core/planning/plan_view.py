"""A plan for people and programs: terminal table, markdown, JSON.

Lists some of the partitions that would run, and always the totals; JSON has all of them. Shows no row's text.
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
from tasks.core.planning.plan import PartitionPlan, RunPlan, Why
from tasks.core.planning.sampling import Range
from tasks.core.storage.left_out_files import in_words

_PARTITIONS_TOLD = 30
_KEYS_TOLD = 10
_COLUMNS = ("partition", "why", "rows", "paid", "equal", "to request", "tokens in", "USD")


def headline(plan: RunPlan) -> str:
    """The plan in one line."""
    running = plan.running
    if not running:
        return (
            f"Nothing to do: {_count(plan, Why.FINISHED)} partitions are finished and unchanged{_left(plan)}"
        )
    requests = sum(partition.requests for partition in running)
    return (
        f"{len(running)} of {len(plan.partitions)} partitions would run, {requests:,} requests{_left(plan)}"
    )


def facts(plan: RunPlan) -> list[tuple[str, str]]:
    """What the plan adds up to, as label and value, in the order they are read."""
    running = plan.running
    reasons = Counter(partition.why for partition in plan.partitions)
    told = [
        ("partitions", ", ".join(f"{reasons[why]:,} {why}" for why in Why if reasons[why])),
        ("left out", in_words(plan.left_out)),
    ]
    if running:
        told += [
            ("rows", _rows(running)),
            ("requests", f"{sum(partition.requests for partition in running):,}, and those that fail again"),
            ("prompt tokens", _span(plan.prompt_tokens(*running), "{:,.0f}")),
            ("", _prompt_basis(plan)),
            ("completion tokens", _span(plan.completion_tokens(*running), "{:,.0f}")),
            ("", _completion_basis(plan)),
            ("cost", _cost(plan)),
        ]
    if plan.gone:
        told.append(("gone", _gone(plan, plan.gone)))
    return [*told, ("output", plan.destination)]


def to_table(plan: RunPlan) -> RenderableType:
    """The plan for a terminal."""
    listing = Table(title=f"Plan for {plan.source}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        numeric = name not in {"partition", "why"}
        listing.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for cells in _lines(plan):
        # As Text, since a key may hold what rich takes for markup.
        listing.add_row(*map(Text, cells))
    totals = Table(show_header=False)
    totals.add_column(style="bold", no_wrap=True)
    totals.add_column(overflow="fold")
    for label, value in facts(plan):
        totals.add_row(label, Text(value))
    parts = [listing, totals] if plan.running else [totals]
    return Group(*parts, Text(f"{headline(plan)}."))


def to_markdown(plan: RunPlan) -> str:
    """The plan for Prefect's page."""
    lines = ["# Plan", "", headline(plan), "", "| | |", "|---|---|"]
    lines += [f"| {label} | {_cell(value)} |" for label, value in facts(plan)]
    if plan.running:
        lines += ["", f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * 2}{'---:|' * (len(_COLUMNS) - 2)}"]
        lines += [f"| {' | '.join(map(_cell, cells))} |" for cells in _lines(plan)]
    return "\n".join(lines)


def to_json(plan: RunPlan) -> str:
    """The plan for programs: every partition, and the totals."""
    running = plan.running
    counts = ("rows", "empty", "paid", "equal_in_partition", "equal_in_run", "requests", "sampled")
    totals = {name: sum(getattr(partition, name) for partition in running) for name in counts}
    told: dict[str, Any] = {
        "source": plan.source,
        "destination": plan.destination,
        "headline": headline(plan),
        "left_out": asdict(plan.left_out),
        "rates": asdict(plan.rates),
        "totals": {
            "partitions": len(plan.partitions),
            "running": len(running),
            **totals,
            **_money(plan, *running),
        },
        "gone": plan.gone,
        "prunes": plan.prunes,
        "partitions": [
            {"key": one.key, "why": one.why, "runs": one.why.runs}
            | {name: getattr(one, name) for name in counts}
            | _money(plan, one)
            for one in plan.partitions
        ],
    }
    return json.dumps(told, indent=2)


def _money(plan: RunPlan, *partitions: PartitionPlan) -> dict[str, Any]:
    cost = plan.cost_usd(*partitions)
    return {
        "prompt_tokens": asdict(plan.prompt_tokens(*partitions)),
        "completion_tokens": asdict(plan.completion_tokens(*partitions)),
        "cost_usd": None if cost is None else asdict(cost),
    }


def _lines(plan: RunPlan) -> list[tuple[str, ...]]:
    """The first partitions that run, what is not shown of them, and all together."""
    shown, others = plan.running[:_PARTITIONS_TOLD], plan.running[_PARTITIONS_TOLD:]
    lines = [(printable(one.key), str(one.why), *_numbers(plan, one)) for one in shown]
    if others:
        lines.append((f"and {len(others):,} more", "", *_numbers(plan, *others)))
    return [*lines, ("all that run", "", *_numbers(plan, *plan.running))]


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


def _rows(running: tuple[PartitionPlan, ...]) -> str:
    counts = {
        "empty": sum(one.empty for one in running),
        "paid for": sum(one.paid for one in running),
        "equal to a row of the same partition": sum(one.equal_in_partition for one in running),
        "equal to a row of another": sum(one.equal_in_run for one in running),
        "to request": sum(one.requests for one in running),
    }
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{sum(one.rows or 0 for one in running):,} ({told or 'none'})"


def _prompt_basis(plan: RunPlan) -> str:
    rates, running = plan.rates, plan.running
    sampled, requests = sum(one.sampled for one in running), sum(one.requests for one in running)
    assumed = ", though nobody knows whether this model counts so" if rates.tokenizer_is_assumed else ""
    if sampled == requests:
        return f"every row counted with {rates.tokenizer}{assumed}"
    return (
        f"{sampled:,} of these rows, picked by hash, counted with {rates.tokenizer}{assumed}; "
        "low and high: three standard errors"
    )


def _completion_basis(plan: RunPlan) -> str:
    rates = plan.rates
    bounds = f"low: nothing, high: max_output_tokens {rates.max_output_tokens:,} each"
    if rates.observed_replies:
        mean = f"{rates.completion_tokens:.0f} each, the mean of {rates.observed_replies:,} earlier replies"
    else:
        mean = f"{rates.completion_tokens:.0f} each, a guess, as there is no earlier reply to learn from"
    return f"{mean}; {bounds}"


def _cost(plan: RunPlan) -> str:
    cost = plan.cost_usd(*plan.running)
    if cost is None:
        return "unknown: the model is not in the price list, give --input- and --output-usd-per-million"
    return f"{_span(cost, '{:,.4f}')} USD by the price list"


def _gone(plan: RunPlan, gone: tuple[str, ...]) -> str:
    what = "would be removed" if plan.prunes else "left alone, prune removes them"
    more = f" and {len(gone) - _KEYS_TOLD:,} more" if len(gone) > _KEYS_TOLD else ""
    told = ", ".join(map(printable, gone[:_KEYS_TOLD]))
    return f"{len(gone):,} outputs without a source ({what}): {told}{more}"


def _span(numbers: Range, form: str) -> str:
    low, likely, high = map(form.format, (numbers.low, numbers.likely, numbers.high))
    if low == high:
        return likely
    return f"about {likely} ({low} to {high})"


def _count(plan: RunPlan, why: Why) -> int:
    return sum(partition.why is why for partition in plan.partitions)


def _left(plan: RunPlan) -> str:
    left = _count(plan, Why.LEFT)
    return f", {left:,} left for another run" if left else ""


def _cell(text: str) -> str:
    """Text that stays one cell of a markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
