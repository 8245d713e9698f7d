"""Renders a run's report as one HTML page without scripts or external resources, light and dark."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from tasks.core.escaping import printable
from tasks.core.reporting import charts
from tasks.core.reporting.rendering import RUN_AGAIN, attention, facts, reason, to_rows
from tasks.core.reporting.report import PartitionState, RunReport
from tasks.core.reporting.samples import Sample

_STYLE = Path(__file__).with_suffix(".css")
_MAX_PARTITIONS_SHOWN = 1000
"""Rows of a table. More rows make the page slow to open: measured, 1,000 take 0.2 MB of HTML, so 10,000 would
take 2 MB. JSON has all partitions."""
_NUMBER_COLUMNS = {"rows", "failed", "reused", "requests", "seconds"}
_STATE_CLASSES = {"failed": "bad", "unfinished": "wait", "published": "good", "skipped": "faint"}


def to_html(report: RunReport, samples: Sequence[Sample] = (), retry_command: str = "") -> str:
    """Render the page.

    Args:
        report: The report.
        samples: Rows to show; they contain private text.
        retry_command: Command that retries what needs attention; may be empty.
    """
    parts = [
        _head(report),
        _figures(report),
        _over_time(report),
        _attention(report, retry_command),
        _partitions(report),
        _samples(samples),
        _section("All figures", _facts(report)),
    ]
    style = _STYLE.read_text()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>summarize-parquet: {escape(report.source)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(report: RunReport) -> str:
    kind, label = _state(report)
    return (
        f'<span class="state {kind}">{label}</span><h1>{escape(report.source)}</h1>'
        f'<p class="faint">to {escape(report.destination)}</p><p>{escape(report.headline)}</p>'
    )


def _state(report: RunReport) -> tuple[str, str]:
    if report.succeeded:
        return "good", "Complete"
    return ("wait", "Stopped, resumable") if report.unfinished_partitions else ("bad", "Needs attention")


def _figures(report: RunReport) -> str:
    tally, bill, latency = report.tally, report.bill, report.metrics.requests.latency_s
    cost = "unknown" if report.cost_usd is None else f"{report.cost_usd:,.4f}"
    typical = latency.quantile(0.5)
    published = len(report.in_state(PartitionState.PUBLISHED))
    figures = [
        (f"{published:,} of {len(report.partitions):,}", "partitions published now"),
        (f"{tally.rows:,}", "rows"),
        (f"{tally.failed:,}", "rows failed"),
        (f"{tally.reused:,}", "rows reused"),
        (f"{bill.sent:,}", "requests"),
        (cost, "US dollars, list price"),
        (f"{report.rows_per_s:,.1f}", "rows per second"),
        ("none" if typical is None else f"{typical:.2g} s", "median latency, about"),
    ]
    cards = "".join(f'<div class="figure"><b>{value}</b><span>{what}</span></div>' for value, what in figures)
    return f'<div class="figures">{cards}</div>'


def _over_time(report: RunReport) -> str:
    metrics = report.metrics
    if not report.bill.sent:
        return ""
    histograms = [
        charts.bars(metrics.requests.latency_s, "Requests by latency", "seconds to the reply"),
        charts.bars(metrics.requests.prompt_tokens, "Requests by length of the prompt", "prompt tokens"),
        charts.bars(
            metrics.requests.completion_tokens, "Requests by length of the reply", "completion tokens"
        ),
    ]
    drawn = "".join(f'<div class="panel">{one}</div>' for one in histograms)
    over_time = f'<div class="panel">{charts.timeline(metrics.series)}</div>'
    return _section("Over time", over_time) + _section("Requests", f'<div class="pair">{drawn}</div>')


def _attention(report: RunReport, retry_command: str) -> str:
    partitions = attention(report)
    if not partitions and report.succeeded:
        return ""
    rows = [[(printable(one.key), ""), (reason(one), "")] for one in partitions[:_MAX_PARTITIONS_SHOWN]]
    table = _table(("partition", "why"), rows) if partitions else ""
    left = len(report.unfinished_partitions)
    unfinished = f"<p>{left} partitions were not finished when the run stopped.</p>" if left else ""
    again = f"<p>{RUN_AGAIN}</p>" + (f"<pre>{escape(retry_command)}</pre>" if retry_command else "")
    return _section("Needs attention", f'<div class="panel">{table}{unfinished}{again}</div>')


def _partitions(report: RunReport) -> str:
    all_rows = to_rows(report)
    rows = [
        [_value_cell(name, value) for name, value in row.items()] for row in all_rows[:_MAX_PARTITIONS_SHOWN]
    ]
    more = len(all_rows) - len(rows)
    rest = f'<p class="faint">and {more:,} more, in the JSON beside this page</p>' if more else ""
    table = _table(all_rows[0] if all_rows else (), rows)
    return _section(f"Partitions ({len(all_rows):,})", f'<div class="panel">{table}{rest}</div>')


def _value_cell(name: str, value: str | float) -> tuple[str, str]:
    if isinstance(value, str):
        return value, _STATE_CLASSES.get(value, "") if name == "state" else ""
    return f"{value:,}", "number"


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    rows = [
        [(f"{printable(one.partition)}, row {one.row}", "faint"), (one.text, "text"), (one.summary, "text")]
        for one in samples
    ]
    table = _table(("row", "beginning of the text", "summary"), rows)
    return _section("Sample of rows (private: row text)", f'<div class="panel">{table}</div>')


def _facts(report: RunReport) -> str:
    rows = "".join(f"<tr><th>{label}</th><td>{escape(value)}</td></tr>" for label, value in facts(report))
    return f'<div class="panel"><table class="facts">{rows}</table></div>'


def _table(headings: Iterable[str], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table; each cell is its text and its CSS class."""
    head = "".join(_cell("th", one, "number" if one in _NUMBER_COLUMNS else "") for one in headings)
    body = "".join(f"<tr>{''.join(_cell('td', *one) for one in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, content: str, kind: str) -> str:
    return f'<{tag} class="{kind}">{escape(content)}</{tag}>' if kind else f"<{tag}>{escape(content)}</{tag}>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"
