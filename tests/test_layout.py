"""The house rules that no linter knows: sizes, mirrored tests, names (docs/layout.md)."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC, TESTS = ROOT / "src" / "llmgateway", ROOT / "tests"
SOURCES = sorted(SRC.rglob("*.py"))
PROGRAMS = sorted(path for folder in ("bench", "scripts") for path in (ROOT / folder).rglob("*.py"))
EVERYTHING = SOURCES + PROGRAMS + sorted(TESTS.rglob("*.py"))

LONGEST_SOURCE, LONGEST_TEST, LONGEST_FUNCTION, MOST_FILES = 400, 600, 50, 12
BANNED = {
    "manager",
    "handler",
    "helper",
    "helpers",
    "util",
    "utils",
    "common",
    "misc",
    "data",
    "info",
    "obj",
    "process",
}

# Source files without a test file of the same name, each with the reason.
UNMIRRORED = {
    "flavor.py": "values without behaviour: every test of flavors makes them",
    "documents/recipe.py": "values without behaviour: every test of the pipeline makes them",
    "documents/question.py": "values without behaviour: every test of the pipeline reads them",
    "jobs/order.py": "values without behaviour: every test of the desk makes them",
    "jobs/seams.py": "protocols without behaviour",
    "stores/base.py": "values and protocols without behaviour: the tests of both stores make them",
    "catalog/model.py": "values without behaviour: every test of the catalog and of routing makes them",
}
# Names that hold a banned word, each with the reason.
ALLOWED_NAMES = {
    "data_dir": "the setting's name in the contract",
    "file_data": "OpenAI's name of a file's content, where a request is read",
    "data": "OpenAI's name of a list's items, where an answer is read",
    "data_received": "asyncio's name of what a protocol is handed",
    "info": "a level of logging: the method's name is given",
}
# Folders with more files, each with the reason.
LARGE_FOLDERS = {
    "src/llmgateway": "the processes put together, the commands, and what every room may use",
    "tests/jobs": "mirrors of a folder of twelve, and what its tests share",
    "tests/documents_api": "mirrors of a folder of twelve, and what its tests share",
    "tests/gateway": "mirrors of a folder of twelve, and what its tests share",
    "tests/e2e": "one file for each thing that is shown from outside",
    "tests/e2e/services": "one file for each thing that services show from outside, and what these share",
    "tests/storage/jobs": "mirrors of a folder of twelve, and what its tests share",
    "tests/storage": "mirrors of a folder of twelve, and what its tests share",
    "tests/api/admin": "mirrors of a folder of twelve, and what its tests share",
    "tests/documents_api/entities": "mirrors of a folder of twelve, and what its tests share",
    "tests/upstream": "mirrors of a folder of twelve, and a second file for the relay's streams",
    "tests/upstream/litellm": "mirrors, and what is held against LiteLLM's own calls: answers, usage and cost",
    "tests/upstreams": "a file for each wire that is played, and one for the collector of traces and metrics",
    "tests": "the top level of the package has its mirrors here, beside what all tests share",
    "bench": "one program, started as a module: each peer, each measure and each table is a file",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def mirror_of(source: Path) -> Path:
    inside = source.relative_to(SRC)
    return TESTS / inside.parent / f"test_{inside.name}"


@cache
def functions_of(path: Path) -> list[tuple[str, int]]:
    """Give the functions of a module, each with how many lines it has."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@cache
def names_of(path: Path) -> frozenset[str]:
    """Give every name that a module gives: to functions, classes, arguments, variables and attributes."""
    return frozenset(_names_in(ast.parse(path.read_text())))


def _names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case (
                ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
            ):
                yield name


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20
    assert len(EVERYTHING) > len(SOURCES)


def test_files_are_short() -> None:
    limits = {path: LONGEST_TEST if TESTS in path.parents else LONGEST_SOURCE for path in EVERYTHING}

    long = {relative(path): lines for path, limit in limits.items() if (lines := lines_of(path)) > limit}

    assert long == {}, "one idea each: split them"


def test_what_is_marked_alone_is_where_make_test_looks_for_it() -> None:
    marked = [path for path in TESTS.rglob("*.py") if "mark." + "alone" in path.read_text()]

    assert marked
    assert [relative(path) for path in marked if not path.name.startswith("test_")] == []


@pytest.mark.timeout(120)
def test_functions_are_short() -> None:
    sizes = ((path, name, lines) for path in EVERYTHING for name, lines in functions_of(path))

    long = {f"{relative(path)}: {name}": lines for path, name, lines in sizes if lines > LONGEST_FUNCTION}

    assert long == {}


def test_half_of_all_functions_are_very_short() -> None:
    sizes = sorted(lines for path in SOURCES for _, lines in functions_of(path))

    assert sizes[len(sizes) // 2] <= 8
    long_files = sorted(map(lines_of, SOURCES))
    assert long_files[int(len(long_files) * 0.9)] <= 250


def test_folders_are_small() -> None:
    folders = {path.parent for path in EVERYTHING}
    large = {
        relative(f): n for f in folders if (n := len([p for p in f.glob("*.py") if p.stem != "__init__"])) > MOST_FILES
    }

    assert set(large) == set(LARGE_FOLDERS), large


def test_every_source_file_has_its_mirror() -> None:
    sources = [path for path in SOURCES if not path.stem.startswith("__")]

    missing = {path.relative_to(SRC).as_posix() for path in sources if not mirror_of(path).exists()}

    assert sorted(missing - set(UNMIRRORED)) == [], "each needs its tests/<room>/test_<file>.py"
    assert sorted(set(UNMIRRORED) - missing) == [], "these exceptions are no longer needed"


def test_every_room_has_its_init_file() -> None:
    rooms = {path.parent for path in SOURCES} - {SRC}

    assert [relative(room) for room in sorted(rooms) if not (room / "__init__.py").exists()] == []


def is_banned(name: str) -> bool:
    return bool(BANNED & set(words_of(name))) or name.startswith(("do_", "base_"))


@pytest.mark.timeout(120)
def test_names_say_something() -> None:
    given = {(relative(path), name) for path in SOURCES for name in (*names_of(path), path.stem)}

    banned = {(path, name) for path, name in given if is_banned(name) and name not in ALLOWED_NAMES}

    assert banned == set(), "the glossary (docs/glossary.md) has better names"


def test_allowed_names_are_still_needed() -> None:
    given = {name for path in SOURCES for name in names_of(path)}

    assert set(ALLOWED_NAMES) - given == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [("ModelManager", ["model", "manager"]), ("SSEData", ["sse", "data"]), ("api_base", ["api", "base"])],
)
def test_names_are_split_into_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words
