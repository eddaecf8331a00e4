"""What the documents say against what the code is."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from llmgateway import errors
from llmgateway.errors import GatewayError, UpstreamRejectedError
from llmgateway.settings import fields, name_of

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
README = (ROOT / "README.md").read_text()
OF_DOCUMENTS = (ROOT / "docs" / "documents.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# Imported by name, but parts of another package that is declared.
PARTS = {
    "aiohappyeyeballs": "aiohttp",
    "multidict": "aiohttp",
    "yarl": "aiohttp",
    "pydantic-core": "pydantic",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry-exporter-otlp",
    "googleapis-common-protos": "opentelemetry-exporter-otlp",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", name, maxsplit=1)[0]).lower()


def declared() -> set[str]:
    return {normal(requirement) for requirement in PYPROJECT["project"]["dependencies"]}


def developing() -> set[str]:
    return {normal(requirement) for group in PYPROJECT["dependency-groups"].values() for requirement in group}


def imported(folder: Path) -> Iterator[str]:
    """Yield the distribution of everything imported in a folder that neither Python nor we bring."""
    owners = packages_distributions()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    roots = [name.name.split(".")[0] for name in names]
                case ast.ImportFrom(module=str(module)):
                    roots = [module.split(".")[0]]
                case _:
                    continue
            ours = {"llmgateway", "tests", "scripts", "bench", *sys.stdlib_module_names}
            yield from (normal(owners[root][0]) for root in roots if root not in ours)


def all_errors() -> list[type[GatewayError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]


def codes_of_places() -> Iterator[tuple[int, str]]:
    """Yield the status and the code of each error that is raised with a code of its own."""
    for path in (ROOT / "src" / "llmgateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors.__all__:
                for given in node.keywords:
                    kind = getattr(errors, node.func.id)
                    # A provider's refusal has the provider's status.
                    if (
                        given.arg == "code"
                        and isinstance(given.value, ast.Constant)
                        and kind is not UpstreamRejectedError
                    ):
                        yield kind.status, str(given.value.value)


def test_every_error_code_is_documented_once_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.+) \|$", README + OF_DOCUMENTS, re.MULTILINE)
    documented = {(int(status), code) for status, code, _ in rows}
    # A provider's own refusal has the status and code that the provider gave.
    ours = {(kind.status, kind.code) for kind in all_errors()} - {(GatewayError.status, "")}

    assert documented == ours | set(codes_of_places())
    assert all(len(action) > 10 for *_, action in rows)
    assert len(rows) == len(documented)


def test_error_tree_is_drawn_whole() -> None:
    drawn = set(re.findall(r"\b(\w+Error)\b", errors.__doc__ or ""))

    assert drawn == {kind.__name__ for kind in all_errors()} == set(errors.__all__)


def test_every_room_is_in_the_layout() -> None:
    source = ROOT / "src" / "llmgateway"
    rooms = {f"{path.parent.name}/" for path in source.glob("*/__init__.py")} | {
        path.name for path in source.glob("*.py")
    }
    layout = (ROOT / "docs" / "layout.md").read_text()

    built = {room for room in rooms if re.search(rf"^{re.escape(room)} (?! *\*)", layout, re.MULTILINE)}

    assert rooms - built == set(), "docs/layout.md does not name them, or still calls them not built"


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]

    assert [link for link in links if link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DECISIONS, ids=relative)
def test_decision_has_its_form(document: Path) -> None:
    lines = document.read_text().splitlines()

    assert len(lines) <= 60
    assert re.fullmatch(r"# \d+\. .+", lines[0])
    assert [line for line in lines if line.startswith("## ")] == [
        "## Context",
        "## Decision",
        "## What it costs",
        "## How we will know it was wrong",
    ]


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]

    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 11


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "decisions" / "0011-dependencies.md").read_text()
    given = set(re.findall(r"^- `([\w.-]+)`: .{15,}$", text, re.MULTILINE))

    assert given == declared()
    assert developing() - set(re.findall(r"`([\w.-]+)`", text)) == set()


@pytest.mark.parametrize(("folder", "known"), [("src", declared()), ("tests", declared() | developing())])
def test_what_is_imported_is_declared(folder: str, known: set[str]) -> None:
    assert {PARTS.get(name, name) for name in imported(ROOT / folder)} - known == set()


def test_every_setting_is_in_the_example_and_nothing_else() -> None:
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#? ?(LLMGATEWAY_\w+)=", example, re.MULTILINE))

    assert named == {name_of(path) for path, _ in fields()}


def test_changelog_has_a_place_for_what_comes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    assert "## [Unreleased]" in text
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


@pytest.mark.parametrize(
    "path",
    sorted([*DOCUMENTS, ROOT / "Makefile", ROOT / "Dockerfile", *ROOT.glob("*.lock"), *ROOT.glob("*.yml")]),
    ids=relative,
)
def test_nothing_names_this_machine(path: Path) -> None:
    assert not re.search(r"/work/|/root/|/home/\w+/|\bpypi\.org\b|\bpythonhosted\b", path.read_text())
