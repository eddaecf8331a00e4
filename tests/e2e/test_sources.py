"""Code that nobody of ours wrote is never run, and what is installed is what was locked (pitfalls, group Q)."""

import ast
import re
import sysconfig
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "llmgateway").rglob("*.py"))
LOCKS = sorted(ROOT.rglob("requirements*.lock"), key=str)
# Modules that run or load whatever they are given.
RUNNING = {"subprocess", "pty", "pickle", "marshal", "shelve", "code", "codeop", "runpy", "dill", "cloudpickle"}
CALLED = {"eval", "exec", "compile", "__import__", "execfile"}
STARTING = {"system", "popen", "run_process", "open_process", "create_subprocess_exec", "create_subprocess_shell"}
STARTING |= {"fork", "forkpty", "posix_spawn", "posix_spawnp", "subprocess_exec", "subprocess_shell"}
STARTING |= {f"{start}{how}" for start in ("exec", "spawn") for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")}
# Each with the reason.
ALLOWED = {
    "storage/migrations/apart.py: open_process": "our own program, whose input is the address in the settings",
    "storage/migrations/apart.py: subprocess": "the type of what that returns",
    "storage/migrations/apart.py: exec": "the first word of our own program",
    "documents/running/questions.py: system": "the system prompt",
    "documents/running/reducing.py: system": "the system prompt",
    "storage/documents/seeds.py: system": "the system prompt",
}
# What starts Python with code of its own, each with the reason.
STARTS = {
    "_editable_impl_llmgateway.pth": "this project, as a link",
    "a1_coverage.pth": "measures coverage, for developers",
    "distutils-precedence.pth": "setuptools, for developers",
    "_virtualenv.pth": "who makes environments with virtualenv",
}


def steps(path: Path) -> Iterator[str]:
    """Yield each thing in a file that could run what it is given."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name.partition(".")[0] for name in names if name.name.partition(".")[0] in RUNNING)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ({module.partition(".")[0]} & RUNNING)
                yield from ({name.name for name in names} & STARTING)
            case ast.Call(func=ast.Name(id=name)) if name in CALLED:
                yield name
            case ast.Attribute(attr=name) if name in STARTING:
                yield name
            case _:
                pass


def test_pitfall_126_no_template_is_ever_code() -> None:
    """No template engine is in use; one that comes must be Jinja's sandbox."""
    found = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(name.name.startswith(("jinja2", "mako")) for name in node.names))
        or (isinstance(node, ast.ImportFrom) and re.match(r"jinja2(?!\.sandbox$)|mako", node.module or ""))
    ]

    assert found == []


def test_pitfall_132_nothing_runs_what_it_is_given() -> None:
    found = {f"{path.relative_to(ROOT / 'src' / 'llmgateway')}: {step}" for path in SOURCES for step in steps(path)}

    assert len(SOURCES) > 150
    assert found - ALLOWED.keys() == set()


async def test_pitfall_132_a_catalog_that_would_run_something_is_a_fault(gateway: Serve, tmp_path: Path) -> None:
    running = await gateway(admin_key=ADMIN_KEY)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/yaml"}
    sign = tmp_path / "ran"
    for tag in ("object/apply:os.system", "object/new:os.system", "object/apply:subprocess.check_output"):
        yaml = f"providers: !!python/{tag} ['touch {sign}']\n"

        answer = await running.client.post("/admin/catalog/check", content=yaml, headers=headers)

        assert answer.json().get("faults") or answer.status_code == 400, answer.text
    assert not sign.exists()


def test_pitfall_133_every_package_is_locked_with_its_hashes() -> None:
    locks = [path for path in LOCKS if path.parent == ROOT]
    assert {path.name for path in locks} == {"requirements.lock", "requirements-dev.lock", "requirements-build.lock"}
    for path in locks:
        named = re.split(r"\n(?=[A-Za-z0-9])", path.read_text())[1:]
        assert named
        assert [one.split()[0] for one in named if "--hash=sha256:" not in one or "==" not in one.split()[0]] == []


def test_pitfall_133_nothing_installed_runs_when_python_starts() -> None:
    """The releases 1.82.7 and 1.82.8 of LiteLLM that others had made ran code at each start of Python."""
    places = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    found = {path.name for place in places for path in place.glob("*.pth")}

    assert found <= STARTS.keys()
    assert f"litellm=={version('litellm')} " in (ROOT / "requirements.lock").read_text()
    assert version("litellm") not in {"1.82.7", "1.82.8"}


@pytest.mark.alone
@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/health", "/metrics"])
async def test_pitfall_136_ten_thousand_ranges_cost_nothing(gateway: Serve, path: str) -> None:
    running = await gateway()
    ranges = "bytes=" + ",".join(f"{number}-{number}" for number in range(3000, 13_000))

    async def fastest_s(**headers: str) -> float:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            answer = await running.client.get(path, headers={"Accept-Encoding": "identity", **headers})
            took.append(time.perf_counter() - began)
            assert answer.status_code in {200, 400, 416, 431}
            assert "content-range" not in answer.headers
            assert "byteranges" not in answer.headers["content-type"]
        return min(took)

    assert await fastest_s(Range=ranges) < await fastest_s(Other=ranges) + 0.01
