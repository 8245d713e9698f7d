"""Builds the wheel: the one package ``summarize_parquet``, which holds the folders ``flows`` and ``tasks``.

A checkout imports ``flows`` and ``tasks`` by these names. In site-packages they would collide with the
modules of other projects, so the wheel has ``summarize_parquet.flows`` and ``summarize_parquet.tasks``, and
the code's imports and strings that name their modules get the prefix. Files of ``flows/public`` become the
root of the package. An editable install puts the checkout on the path and adds ``flows/public/checkout.py``.
"""

import ast
import re
import tempfile
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "summarize_parquet"
COMMAND = "summarize-parquet"
FOLDERS = ("flows", "tasks")
PUBLIC = Path("flows", "public")
CHECKOUT = PUBLIC / "checkout.py"

_COMMAND = re.compile(r"\bpython -m flows\b(?!\.)")
_DOTTED_NAME = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})(?:\.\w+)+")
_TAKE_A_MODULES_NAME = {"getLogger", "import_module", "find_spec"}


class WheelHook(BuildHookInterface):
    """Called by hatchling before and after it writes a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to the wheel."""
        root = Path(self.root)
        if version == "editable":
            build_data["force_include_editable"][str(root / CHECKOUT)] = f"{PACKAGE}/__init__.py"
            return
        self._rewritten = tempfile.TemporaryDirectory()
        write_package(root, Path(self._rewritten.name))
        build_data["force_include"][self._rewritten.name] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the rewritten files."""
        del build_data, artifact_path
        if version != "editable":
            self._rewritten.cleanup()


def write_package(root: Path, package: Path) -> None:
    """Write the package's files, the Python ones rewritten."""
    paths = [path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("[!.]*")]
    files = [path for path in paths if (root / path).is_file() and "__pycache__" not in path.parts]
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    for path in files:
        if path == CHECKOUT:
            continue
        content = (root / path).read_bytes()
        target = package / (path.relative_to(PUBLIC) if path.is_relative_to(PUBLIC) else path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(rewrite(content, modules, path) if path.suffix == ".py" else content)


def rewrite(source: bytes, modules: set[str], path: Path) -> bytes:
    """Give every mention of a module of this project its name in the wheel; lines keep their numbers.

    Args:
        source: A Python file, in UTF-8.
        modules: The names of all modules in a checkout.
        path: Where the file is, for the error.

    Raises:
        ValueError: The file has ``import tasks...``, which binds a name that would not exist in the wheel.
    """
    tree = ast.parse(source)
    starts = [0, *accumulate(map(len, source.splitlines(keepends=True)))]
    names = set(_module_names(tree))
    # From the last to the first, since a longer text moves all that follows.
    for node in sorted(_imports_and_strings(tree), key=lambda one: (-one.lineno, -one.col_offset)):
        if isinstance(node, ast.Import):
            message = f"{path}:{node.lineno}: write `from ... import`, which can be rewritten for the wheel."
            raise ValueError(message)  # noqa: TRY004 - the file is wrong, not an argument's type
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        text = source[begin:end].decode()
        if isinstance(node, ast.ImportFrom) or node in names:
            text = re.sub(rf"\b({'|'.join(FOLDERS)})\b", rf"{PACKAGE}.\1", text, count=1)
        else:
            text = _rewrite_text(text, modules)
        source = source[:begin] + text.encode() + source[end:]
    return source


def _rewrite_text(text: str, modules: set[str]) -> str:
    """Rewrite a string that may mention modules among other words."""

    def in_wheel(found: re.Match[str]) -> str:
        name = found[0]
        return f"{PACKAGE}.{name}" if ".".join(name.split(".")[:2]) in modules else name

    return _DOTTED_NAME.sub(in_wheel, _COMMAND.sub(COMMAND, text))


def _imports_and_strings(
    tree: ast.AST,
) -> Iterator[ast.Import | ast.ImportFrom | ast.Constant | ast.JoinedStr]:
    """This project's imports and all strings; what is inside an f-string is a part of it."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            if any(_is_ours(alias.name) for alias in node.names):
                yield node
        elif isinstance(node, ast.ImportFrom):
            if not node.level and _is_ours(node.module or ""):
                yield node
        elif isinstance(node, ast.JoinedStr):
            yield node
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node
        else:
            todo.extend(ast.iter_child_nodes(node))


def _module_names(tree: ast.AST) -> Iterator[ast.expr]:
    """The strings that are a folder's name alone, where that is a module's name: ``getLogger("tasks")``.

    Elsewhere the same word may be a key of a file or a label, and is left alone.
    """
    for node in ast.walk(tree):
        candidates: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _TAKE_A_MODULES_NAME:
            candidates = node.args[:1]
        elif isinstance(node, ast.List | ast.Tuple):
            candidates = [two for one, two in pairwise(node.elts) if getattr(one, "value", "") == "-m"]
        yield from (one for one in candidates if getattr(one, "value", "") in FOLDERS)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in FOLDERS
