"""Packages that only pass on what their modules define, loaded without those: OpenAI's types, for LiteLLM's import.

LiteLLM names a fifth of them; the others took 10 MB and a sixth of the import's time.
"""

import ast
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from typing_extensions import override


@contextmanager
def loaded_when_used(root: str) -> Iterator[None]:
    """Have a package and those in it import each of their modules only when its name is asked for.

    Meant for what is imported within; it stays so afterwards. A package that does anything but pass names on is loaded
    as always.
    """
    finder = _Finder(root)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if f"{name}.".startswith(f"{self._root}."):
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and spec.submodule_search_locations and type(spec.loader) is SourceFileLoader:
                spec.loader = _Loader(spec.loader.name, spec.loader.path)
                return spec
        return None


class _Loader(SourceFileLoader):
    @override
    def exec_module(self, module: ModuleType) -> None:
        places = _places(self.get_source(module.__name__) or "")
        if not places:
            super().exec_module(module)
            return

        def found(name: str) -> Any:
            if name not in places:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            inside, original = places[name]
            value = importlib.import_module(f"{module.__name__}.{inside}")
            if original:
                value = getattr(value, original)
            setattr(module, name, value)
            return value

        vars(module).update(__getattr__=found, __dir__=lambda: sorted(vars(module).keys() | places.keys()))


def _places(source: str) -> dict[str, tuple[str, str]]:
    """Read which module each name comes from, and its name there, "" for the module itself; nothing if more is done."""
    places: dict[str, tuple[str, str]] = {}
    for line in ast.parse(source).body:
        match line:
            case ast.ImportFrom(module="__future__") | ast.Expr(value=ast.Constant()):
                continue
            case ast.ImportFrom(module=str(inside), names=names, level=1) if names[0].name != "*":
                places |= {each.asname or each.name: (inside, each.name) for each in names}
            case _:
                return {}
    # An imported module is its package's attribute by itself, and would hide what has the same name.
    modules = {inside.partition(".")[0]: (inside.partition(".")[0], "") for inside, _ in places.values()}
    return {} if modules.keys() & places.keys() else modules | places
