"""The run's report as one HTML page: no scripts, nothing loaded from elsewhere, light and dark."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from tasks.core.escaping import printable
from tasks.core.reporting import charts
from tasks.core.reporting.rendering import AGAIN, attention, facts, reason, to_rows
from tasks.core.reporting.report import PartitionState, RunReport
from tasks.core.reporting.samples import Sample

_STYLE = Path(__file__).with_suffix(".css")
_PARTITIONS_TOLD = 1000
_NUMBERS = {"rows", "failed", "reused", "requests", "seconds"}
_KINDS = {"failed": "bad", "unfinished": "wait", "published": "good", "skipped": "faint"}


def to_html(report: RunReport, samples: Sequence[Sample] = (), healing: str = "") -> str:
    """The page.

    Args:
        report: What happened.
        samples: Rows to show; their text is private.
        healing: What to run for the rows and partitions that need attention.
    """
    parts = [
        _head(report),
        _figures(report),
        _over_time(report),
        _needy(report, healing),
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
    kind, words = _verdict(report)
    return (
        f'<span class="state {kind}">{words}</span><h1>{escape(report.source)}</h1>'
        f'<p class="faint">to {escape(report.destination)}</p><p>{escape(report.headline)}</p>'
    )


def _verdict(report: RunReport) -> tuple[str, str]:
    if report.succeeded:
        return "good", "Complete"
    return ("wait", "Stopped, resumable") if report.unfinished_partitions else ("bad", "Needs attention")


def _figures(report: RunReport) -> str:
    tally, bill, latency = report.tally, report.bill, report.observed.requests.latency_s
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
    seen = report.observed
    if not report.bill.sent:
        return ""
    histograms = [
        charts.bars(seen.requests.latency_s, "Requests by latency", "seconds to the answer"),
        charts.bars(seen.requests.prompt_tokens, "Requests by length of the prompt", "prompt tokens"),
        charts.bars(seen.requests.completion_tokens, "Requests by length of the reply", "completion tokens"),
    ]
    drawn = "".join(f'<div class="panel">{one}</div>' for one in histograms)
    over_time = f'<div class="panel">{charts.timeline(seen.series)}</div>'
    return _section("Over time", over_time) + _section("Requests", f'<div class="pair">{drawn}</div>')


def _needy(report: RunReport, healing: str) -> str:
    needy = attention(report)
    if not needy and report.succeeded:
        return ""
    rows = [[(printable(one.key), ""), (reason(one), "")] for one in needy[:_PARTITIONS_TOLD]]
    table = _table(("partition", "why"), rows) if needy else ""
    left = len(report.unfinished_partitions)
    unfinished = f"<p>{left} partitions were not finished when the run stopped.</p>" if left else ""
    again = f"<p>{AGAIN}</p>" + (f"<pre>{escape(healing)}</pre>" if healing else "")
    return _section("Needs attention", f'<div class="panel">{table}{unfinished}{again}</div>')


def _partitions(report: RunReport) -> str:
    all_rows = to_rows(report)
    rows = [[_told(name, value) for name, value in row.items()] for row in all_rows[:_PARTITIONS_TOLD]]
    more = len(all_rows) - len(rows)
    rest = f'<p class="faint">and {more:,} more, in the JSON beside this page</p>' if more else ""
    table = _table(all_rows[0] if all_rows else (), rows)
    return _section(f"Partitions ({len(all_rows):,})", f'<div class="panel">{table}{rest}</div>')


def _told(name: str, value: str | float) -> tuple[str, str]:
    if isinstance(value, str):
        return value, _KINDS.get(value, "") if name == "state" else ""
    return f"{value:,}", "number"


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    rows = [
        [(f"{printable(one.partition)}, row {one.row}", "faint"), (one.text, "text"), (one.summary, "text")]
        for one in samples
    ]
    table = _table(("where", "text, its beginning", "summary"), rows)
    return _section("Sample of rows (private: row text)", f'<div class="panel">{table}</div>')


def _facts(report: RunReport) -> str:
    rows = "".join(f"<tr><th>{label}</th><td>{escape(value)}</td></tr>" for label, value in facts(report))
    return f'<div class="panel"><table class="facts">{rows}</table></div>'


def _table(headings: Iterable[str], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table of words, each with its CSS class."""
    head = "".join(_cell("th", one, "number" if one in _NUMBERS else "") for one in headings)
    body = "".join(f"<tr>{''.join(_cell('td', *one) for one in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, words: str, kind: str) -> str:
    return f'<{tag} class="{kind}">{escape(words)}</{tag}>' if kind else f"<{tag}>{escape(words)}</{tag}>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"
