import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmgateway import __version__
from llmgateway.cli import main

CATALOG = """
providers:
  main: {provider: openai, api_key: "${KEY}", api_base: "http://localhost:1/v1"}
  bare: {provider: groq}
models:
  - {name: chat, deployments: [{provider: main, model: gpt-4o}]}
  - {name: "*", passthrough: true}
integrations: {doc_store: {}}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "gateway.yaml"
    path.write_text(CATALOG)
    return {"LLMGATEWAY_CATALOG": str(path)}


def test_check_prints_what_is_on_offer_and_never_a_secret(
    catalog: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {
        **catalog,
        "KEY": "sk-canary",
        "GROK_API_KEY": "xai-canary",
        "LLMGATEWAY_AUDIT__CONTENT": "full",
        "LLMGATEWAY_WORKERS": "2",
    }

    assert main(["check"], environ) == 0

    out = capsys.readouterr().out
    assert "provider: main (openai): openai wire, key set" in out
    assert "provider: bare (groq): openai wire, NO KEY" in out
    assert "provider: xai: openai wire, key set" in out
    assert "models: chat, demo/echo, demo/summary" in out
    assert "models by name (*): " in out
    assert "without effect yet: LLMGATEWAY_AUDIT__CONTENT" in out
    assert ":8: integrations" in out
    assert "warning: 2 worker processes without" in out
    assert "providers.bare.api_key: this account has no key" in out
    assert "faults: 0" in out
    assert "canary" not in out


def test_check_prints_all_faults_of_settings_and_catalog(
    catalog: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**catalog, "LLMGATEWAY_PORT": "x", "LLMGATEWAY_ADMIN_KEY_FILE": "/nowhere", "LLMGATEWAY_HOSTT": "y"}

    assert main(["check"], environ) == 1

    out = capsys.readouterr().out
    assert "fault: LLMGATEWAY_PORT: 'x'" in out
    assert "fault: LLMGATEWAY_ADMIN_KEY_FILE: the file cannot be read" in out
    assert "fault: LLMGATEWAY_HOSTT: there is no such setting; the nearest is LLMGATEWAY_HOST" in out
    assert "gateway.yaml:3: providers.main.api_key: the environment variable KEY is not set" in out
    assert "faults: 4" in out


def test_check_needs_no_file_unless_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"], {"LLMGATEWAY_CATALOG": str(tmp_path / "gone.yaml")}) == 1
    assert "gone.yaml: there is no such file" in capsys.readouterr().out

    assert main(["check"], {}) == 0
    out = capsys.readouterr().out
    assert "models: demo/echo, demo/summary" in out
    assert "models by name (*): none, because no provider has a key here" in out


def test_check_says_what_would_not_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"], {"LLMGATEWAY_AUTH__MODE": "gateway"}) == 1

    assert "fault: LLMGATEWAY_AUTH__GATEWAY_KEYS: needed with LLMGATEWAY_AUTH__MODE=gateway" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["serve", "--port", "99999"], {}, "LLMGATEWAY_PORT: '99999'"),
        (["serve", "--workers", "0"], {}, "LLMGATEWAY_WORKERS"),
        (["serve"], {"LLMGATEWAY_AUTH__MODE": "gateway"}, "LLMGATEWAY_AUTH__GATEWAY_KEYS: needed"),
        (["serve"], {"LLMGATEWAY_NOTHING": "1", "PORT": "x"}, "LLMGATEWAY_NOTHING: there is no such setting"),
        (["worker", "--processes", "0"], {}, "LLMGATEWAY_WORKER_PROCESSES"),
        (["worker", "--threads", "none"], {"CELERY_WORKERS": "4"}, "LLMGATEWAY_WORKER_THREADS: 'none'"),
        (["worker", "--port", "99999"], {}, "LLMGATEWAY_WORKER_PORT: '99999'"),
    ],
)
def test_what_cannot_be_run_says_why_and_exits_with_2(
    arguments: list[str], environ: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, environ) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_no_command_or_a_wrong_one_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["sreve"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments, {})
        assert "usage: llmgateway" in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmgateway", *arguments]


def test_the_version_is_told_without_reading_anything(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LLMGATEWAY_PORT=x\n")

    told = subprocess.run(command("--version"), cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603  # ours

    assert told.stdout == f"llmgateway {__version__}\n"


def test_check_reads_env_file_and_does_not_import_litellm(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GROQ_API_KEY=g\nLLMGATEWAY_HOST=10.0.0.1\n")
    program = "import sys; from llmgateway.cli import main; code = main(['check']); assert 'litellm' not in sys.modules"

    told = subprocess.run(  # noqa: S603  # our own interpreter and text
        [sys.executable, "-c", program], cwd=tmp_path, env=_bare(), capture_output=True, text=True, check=True
    )

    assert "provider: groq: openai wire, key set" in told.stdout
    assert "warning: 10.0.0.1: whoever reaches it" in told.stdout


def test_the_command_lines_settings_go_before_the_environments(tmp_path: Path) -> None:
    environ = {**_bare(), "PORT": "1", "GATEWAY_PORT": "1", "LLMGATEWAY_LOG_FORMAT": "json"}
    with subprocess.Popen(  # noqa: S603  # our own interpreter
        command("serve", "--port", "0"),
        cwd=tmp_path,
        env=environ,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            line = next(line for line in server.stdout if "serving" in line)
        finally:
            server.terminate()

    assert "http://127.0.0.1:" in line
    assert 'http://127.0.0.1:1"' not in line


def _bare() -> dict[str, str]:
    kept = ("PATH", "HOME", "PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}  # noqa: TID251  # for a process of its own


def test_migrate_makes_the_database_and_says_from_where_to_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"LLMGATEWAY_DATA_DIR": str(tmp_path / "own")}

    assert main(["migrate"], environ) == 0
    assert "database: empty -> 0" in capsys.readouterr().out
    assert (tmp_path / "own" / "llmgateway.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700

    assert main(["migrate"], environ) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        ("sqlite:////proc/nowhere/ledger.db", 1, "cannot be written"),
        ("postgresql://gateway:canary@127.0.0.1:1/ledger", 1, "not migrated"),
        ("sqlite:///:memory:", 2, "name a file"),
        ("mysql://host/ledger", 2, "LLMGATEWAY_DATABASE_URL"),
    ],
)
def test_migrate_says_why_it_could_not(url: str, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"], {"LLMGATEWAY_DATABASE_URL": url}) == code

    said = capsys.readouterr().err
    assert text in said
    assert "canary" not in said
