"""Rules on imports: they go down, in no circle, and the core imports no Prefect."""

import ast
import graphlib
import pickle
from pathlib import Path

import pytest

from tasks.core import errors

ROOT = Path(__file__).parent.parent
CORE = ROOT / "tasks" / "core"

# From the ground up: each room, a file or a folder, may import those on storeys below it.
STOREYS = [
    {"model", "errors", "escaping", "options", "pricing", "process_identity", "terminal", "periodic"},
    {"formats", "row_key", "endpoint"},
    {"prompt", "progress", "settings", "ratelimit", "storage"},
    {"earlier_keys"},
    {"parquet"},
    {"job"},
    {"output_facts"},
    {"ledger"},
    {"lease"},
    {"planning"},
    {"reporting"},
    {"llm"},
    {"rows"},
    {"partition", "api"},
    {"run"},
]


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports when it runs, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def without_type_checking(tree: ast.Module) -> ast.Module:
    def is_for_types(node: ast.stmt) -> bool:
        return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"

    tree.body = [node for node in tree.body if not is_for_types(node)]
    return tree


def rooms(path: Path) -> set[str]:
    """The rooms a file of the core imports; its own is none of them."""
    own = path.relative_to(CORE).with_suffix("").parts[0]
    return {name.split(".")[2] for name in imported(path) if name.startswith("tasks.core.")} - {own}


def test_every_room_stands_on_a_storey() -> None:
    standing = {
        path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set().union(*STOREYS) == standing - {"__init__"}


@pytest.mark.parametrize("level", range(len(STOREYS)), ids=lambda level: " ".join(sorted(STOREYS[level])))
def test_imports_go_down(level: int) -> None:
    below = set().union(*STOREYS[:level])
    for room in STOREYS[level]:
        for path in (CORE / room).glob("*.py") if (CORE / room).is_dir() else [CORE / f"{room}.py"]:
            assert rooms(path) <= below, path


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_file_imports_itself_through_others() -> None:
    paths = [path for folder in ("flows", "tasks") for path in (ROOT / folder).rglob("*.py")]
    # Those within functions count, too.
    graph = {module_of(path): imported(path) for path in paths}

    def files(names: set[str]) -> set[str]:
        """Without the packages that a module was imported from."""
        found = names & graph.keys()
        return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}

    graphlib.TopologicalSorter({name: files(names) for name, names in graph.items()}).prepare()


def test_a_partition_passes_at_most_eight_rooms() -> None:
    own, folders = CORE / "partition", {path.parent.name for path in CORE.glob("*/__init__.py")}
    paths = own.glob("*.py") if own.is_dir() else [CORE / "partition.py"]
    passed = set().union(*map(rooms, paths)) & folders
    assert len(passed | {"run", "partition"}) <= 8


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("tasks/core", ("prefect", "flows", "tasks.local")), ("tasks/local", ("prefect", "flows"))],
)
def test_core_and_local_import_neither_prefect_nor_flows(folder: str, forbidden: tuple[str, ...]) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            assert not name.startswith(forbidden), f"{path.name} imports {name}"


def test_one_room_imports_llamaindex_and_openai() -> None:
    importers = {
        p.stem
        for p in CORE.rglob("*.py")
        if any(n.startswith(("llama_index", "openai")) for n in imported(p))
    }
    assert importers == {"client"}


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
