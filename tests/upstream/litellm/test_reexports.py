"""Packages that only pass names on, loaded without the modules that nobody asked them for."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmgateway.upstream.litellm.reexports import loaded_when_used

_ALL = """
import importlib, pkgutil, sys
from llmgateway.upstream.litellm.library import load_litellm
load_litellm()
import openai
loaded = sum(name.startswith("openai.types.") for name in sys.modules)
packages = [openai.types]
for package in packages:
    for name in dir(package):
        value = getattr(package, name)
        assert name.startswith("_") or value is package.__dict__[name], name
    for module in pkgutil.iter_modules(package.__path__):
        found = importlib.import_module(f"{package.__name__}.{module.name}")
        packages += [found] if module.ispkg else []
total = sum(name.startswith("openai.types.") for name in sys.modules)
print(loaded < total / 2, len(packages) > 20, openai.types.chat.ChatCompletion.__name__)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the name that the test gives it none of; its modules are forgotten afterwards."""
    folder = tmp_path / "passes_on"
    folder.mkdir()
    (folder / "one.py").write_text("class One: ...\n")
    (folder / "two.py").write_text("Two = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "passes_on"]:
        del sys.modules[name]


def test_openais_types_are_loaded_when_named_and_all_of_them_can_be() -> None:
    ran = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _ALL], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.stdout.split("\n")[-2] == "True True ChatCompletion", ran.stdout + ran.stderr


def test_a_name_brings_its_module_and_no_other(package: Path) -> None:
    (package / "__init__.py").write_text(
        '"""Passes on."""\nfrom __future__ import annotations\nfrom .one import One as First\nfrom .two import Two\n'
    )
    with loaded_when_used("passes_on"):
        found = importlib.import_module("passes_on")

    assert "passes_on.one" not in sys.modules
    assert found.First.__name__ == "One"
    assert found.First is found.one.One
    assert "passes_on.two" not in sys.modules
    assert {"First", "Two", "one", "two"} <= set(dir(found))
    assert found.two.Two == found.Two == 2
    with pytest.raises(AttributeError, match=r"module 'passes_on' has no attribute 'Three'"):
        _ = found.Three


@pytest.mark.parametrize(
    "source",
    [
        "from .one import One\nprint()",
        "from .one import *",
        "from .one import One as two\nfrom .two import Two",
        "import passes_on.one\nfrom .one import One",
        "from . import one",
    ],
)
def test_a_package_that_does_more_is_loaded_as_always(package: Path, source: str) -> None:
    (package / "__init__.py").write_text(source)
    with loaded_when_used("passes_on"):
        found = importlib.import_module("passes_on")

    assert "passes_on.one" in sys.modules
    assert "__getattr__" not in vars(found)


def test_other_packages_and_later_imports_are_left_alone(package: Path) -> None:
    (package / "__init__.py").write_text("from .one import One\n")
    before = list(sys.meta_path)
    with loaded_when_used("passes"):
        assert len(sys.meta_path) == len(before) + 1
        importlib.import_module("passes_on")

    assert "passes_on.one" in sys.modules
    assert sys.meta_path == before
