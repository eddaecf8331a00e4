"""LiteLLM's own proxy, in an environment of its own, without a database: the peer this gateway is held against."""

import json
import sys
from pathlib import Path

from bench import payloads
from bench.commands import run

VERSION = "1.106.2"
# What its "Production Best Practices" say, as far as it goes without a database. Nothing is fetched at its start.
ENVIRONMENT = (
    ("LITELLM_MODE", "PRODUCTION"),
    ("LITELLM_LOG", "ERROR"),
    ("LITELLM_MASTER_KEY", payloads.KEY),
    ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
)
PINS = Path(__file__).with_name("requirements-litellm.txt")


def install(cache: Path) -> Path:
    """Make the environment under `cache` unless it is there; give its program.

    Raises:
        RuntimeError: The environment cannot be made; the message holds pip's last lines.
    """
    folder = cache / "bench-litellm"
    program = folder / "bin/litellm"
    wanted = PINS.read_text()
    installed = folder / "installed.txt"
    if not (program.exists() and installed.exists() and installed.read_text() == wanted):
        print(f"installing LiteLLM's proxy {VERSION} into an environment of its own (about a minute, once)")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "--no-deps", "-r", str(PINS)])
        installed.write_text(wanted)
    return program


def _run(command: list[str]) -> None:
    succeeded, printed = run(command)
    if not succeeded:
        tail = "\n".join(printed.splitlines()[-5:])
        raise RuntimeError(
            f"LiteLLM's proxy cannot be installed; leave it out with --without litellm. pip says:\n{tail}"
        )


def command(program: Path, folder: Path, port: int, upstream_port: int, *, cache: bool = False) -> list[str]:
    """Write the proxy's configuration into `folder` and give the command that starts it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    base = f"http://127.0.0.1:{upstream_port}"
    models = [_model(name, f"openai/{name}", f"{base}/v1") for name in payloads.RELAYED]
    translated = (payloads.TRANSLATED, payloads.TRANSLATED_STREAM)
    models += [_model(name, f"anthropic/{name}", base) for name in translated]
    caching = {"cache": True, "cache_params": {"type": "local"}} if cache else {}
    advised = {"set_verbose": False, "json_logs": True, "request_timeout": 600}
    whole = {"model_list": models, "litellm_settings": {"num_retries": 0, "telemetry": False, **advised, **caching}}
    config.write_text(json.dumps(whole, indent=1))  # JSON is YAML
    return [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]


def _model(name: str, upstream: str, api_base: str) -> dict[str, object]:
    return {"model_name": name, "litellm_params": {"model": upstream, "api_base": api_base, "api_key": "sk-bench"}}
