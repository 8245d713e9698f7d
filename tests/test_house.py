"""The house rules that a machine can check: imports go down, and the core knows nothing of Prefect."""

import ast
import pickle
from pathlib import Path

import pytest

from tasks.core import errors

ROOT = Path(__file__).parent.parent
CORE = ROOT / "tasks" / "core"

# Each room may import those before it; rooms of one line do not import each other.
STOREYS = [
    {"prices", "sampling", "histogram", "ticker", "axes", "printable"},
    {"model"},
    {"tally", "plan"},
    {"series"},
    {"charts"},
    {"report"},
    {
        *(
            "errors",
            "options",
            "prompt",
            "sharing",
            "owner",
            "batch",
            "commits",
            "completions",
            "tokens",
            "planview",
        ),
        *("quota", "window", "learned", "headroom"),
    },
    {
        "failures",
        "settings",
        "columns",
        "budget",
        "breaker",
        "gate",
        "pacing",
        "results",
        "telemetry",
        "temporary",
        "grouping",
    },
    {"footer", "location", "replies", "pacer", "entra", "transport", "rendering", "progress"},
    {"storage"},
    {"slot", "layout", "publishing", "lean", "discovery", "footers", "segment"},
    {"limiter", "parquet", "job", "shelf", "known"},
    {"summarizer", "outputs", "account", "claims", "housekeeping", "spill"},
    {"llm", "meter", "gauge", "preflight", "gone", "samples"},
    {"recipe", "gateway"},
    {"ledger", "reuse", "lease", "standing", "monitor", "page"},
    {"readahead", "inventory"},
    {"partition", "survey", "archive"},
    {"direct"},
]


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms(names: set[str]) -> set[str]:
    return {
        name.split(".")[2] for name in names if name.startswith("tasks.core.") and len(name.split(".")) > 2
    }


def test_every_room_stands_on_a_storey() -> None:
    standing = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    assert set().union(*STOREYS) == standing


@pytest.mark.parametrize("path", sorted(CORE.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_imports_go_down(path: Path) -> None:
    storey = next(level for level, names in enumerate(STOREYS) if path.stem in names)
    below = set().union(*STOREYS[:storey])
    existing = set().union(*STOREYS)
    # `errors` names RunReport for the type checker alone.
    assert (rooms(imported(path)) & existing) <= below


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("tasks/core", ("prefect", "flows", "tasks.local")), ("tasks/local", ("prefect", "flows"))],
)
def test_nouns_know_neither_prefect_nor_the_flows(folder: str, forbidden: tuple[str, ...]) -> None:
    for path in (ROOT / folder).glob("*.py"):
        for name in imported(path):
            assert not name.startswith(forbidden), f"{path.name} imports {name}"


def test_only_the_llm_rooms_import_llamaindex_and_openai() -> None:
    importers = {
        p.stem for p in CORE.glob("*.py") if any(n.startswith(("llama_index", "openai")) for n in imported(p))
    }
    assert importers == {"llm", "completions"}


def every_error() -> list[type[errors.PipelineError]]:
    found, todo = [], [errors.PipelineError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_pickles_and_is_drawn_in_the_tree(kind: type[errors.PipelineError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what happened")))
    assert (type(again), str(again)) == (kind, "what happened")
    assert kind.__name__ in (errors.__doc__ or "")


def test_errors_keep_their_attributes_across_processes() -> None:
    assert pickle.loads(pickle.dumps(errors.RateLimitError("429", retry_after_s=3.0))).retry_after_s == 3.0
    assert pickle.loads(pickle.dumps(errors.RequestError("lost", possibly_paid=True))).possibly_paid
