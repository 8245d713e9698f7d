"""``summarize_parquet`` in a checkout: a second name for each module of ``flows`` and ``tasks``.

An editable install copies this file to ``summarize_parquet/__init__.py`` (``hatch_build.py``). Both names
lead to one module object, so that an error raised under one name is caught under the other.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from flows import public

__all__ = public.__all__
__getattr__ = public.__getattr__

_PREFIX = "summarize_parquet."


class _SameModule(MetaPathFinder, Loader):
    """Finds ``summarize_parquet.NAME`` as the module ``NAME``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if not fullname.startswith(_PREFIX):
            return None
        found = find_spec(_name_in_checkout(fullname))
        return ModuleSpec(fullname, self, origin=found.origin) if found else None

    def exec_module(self, module: ModuleType) -> None:
        # The import system returns the entry of `sys.modules`, not the new module it passes here.
        sys.modules[module.__name__] = import_module(_name_in_checkout(module.__name__))


def _name_in_checkout(alias: str) -> str:
    name = alias.removeprefix(_PREFIX)
    return name if name.partition(".")[0] in {"flows", "tasks"} else f"{public.__name__}.{name}"


# Before the path's finder, which would load `flows/summarize.py` a second time under the second name.
sys.meta_path.insert(0, _SameModule())
