"""This gateway as it is measured: with all that protects and records switched on, and variants of that."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench import payloads
from bench.contestants import ENVIRONMENT, Contestant

_ENDLESS = 100_000_000  # requests a minute
_KEY_FILE = "key.txt"
_PRICES = {"input": 0.15, "output": 0.6}


def gateway(folder: Path, *, translates: bool = True) -> Contestant:
    """Describe this gateway with everything on: one worker, all middleware, and none of it ever says no.

    A key from the database with a budget to hold, four limits to count, the cache asked and filled, JSON log lines into
    a file, ledger, metrics, and a tenth of the requests traced, whose spans are sent to the mock, which takes anything.

    Args:
        folder: Where its catalog and what it stores go.
        translates: Whether its catalog has a provider with another wire; without one it never loads LiteLLM.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def command(port: int, upstream_port: int) -> list[str]:
        (folder / "gateway.yaml").write_text(json.dumps(_catalog(upstream_port, translates=translates), indent=1))
        shutil.rmtree(folder / "data", ignore_errors=True)
        (folder / _KEY_FILE).write_text(_new_key(folder / "data"))
        return _serve(port, upstream_port)

    settings = _recording(folder) | {
        "LLMGATEWAY_AUTH__MODE": "client",
        "LLMGATEWAY_LIMITS__REQUESTS_PER_MINUTE": str(_ENDLESS),
        "LLMGATEWAY_LIMITS__REQUESTS_PER_HOUR": str(_ENDLESS * 60),
        "LLMGATEWAY_LIMITS__TOKENS_PER_MINUTE": str(_ENDLESS * 1000),
        "LLMGATEWAY_LIMITS__BURST": str(_ENDLESS),
        # As many as LiteLLM's memory cache keeps: answers to questions that come once are no memory of a gateway's own.
        "LLMGATEWAY_CACHE__MAX_ENTRIES": "200",
    }
    return Contestant(
        "gateway" if translates else "gateway-relay",
        "this gateway, everything on",
        command,
        "/health",
        tuple(settings.items()),
        translates=translates,
        headers=lambda *_: {"authorization": f"Bearer {(folder / _KEY_FILE).read_text()}"},
    )


def plain(folder: Path) -> Contestant:
    """Describe this gateway as it comes: nobody's key is checked, nothing limited or kept, all of it written down."""
    protected = gateway(folder, translates=False)
    settings = _recording(folder) | {"LLMGATEWAY_CACHE__ENABLED": "false"}
    return replace(
        protected,
        name="plain",
        title="this gateway without key, limits, budget, cache",
        environment=tuple(settings.items()),
        headers=lambda *_: {},
        only=frozenset({"small", "burst"}),
    )


def without_redis(folder: Path) -> Contestant:
    """Describe this gateway when the Redis it was told to use is not there."""
    protected = gateway(folder, translates=False)
    return replace(
        protected,
        name="redis-down",
        title="this gateway, its Redis down",
        environment=(*protected.environment, ("LLMGATEWAY_REDIS_URL", "redis://127.0.0.1:1/0")),
        only=frozenset({"small"}),
    )


def workers(folder: Path, name: str, count: int) -> Contestant:
    """Describe this gateway with some worker processes, on whichever cores there are; one is there to compare with."""
    protected = gateway(folder, translates=False)
    return replace(
        protected,
        name=name,
        title=f"this gateway, {name.replace('-', ' ')}",
        command=lambda port, upstream_port: [*protected.command(port, upstream_port), "--workers", str(count)],
        only=frozenset({"workers"}),
    )


def _recording(folder: Path) -> dict[str, str]:
    return {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "LLMGATEWAY_CATALOG": str(folder / "gateway.yaml"),
        "LLMGATEWAY_DATA_DIR": str(folder / "data"),
        "LLMGATEWAY_LOG_FORMAT": "json",
        "BENCH_KEY": "sk-bench",
    }


def _serve(port: int, upstream_port: int) -> list[str]:
    traces = f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:{upstream_port}/v1/traces"
    return ["env", traces, sys.executable, "-m", "llmgateway", "serve", "--port", str(port)]


def _new_key(data_dir: Path) -> str:
    """Make a key with a budget, as an operator does.

    Raises:
        RuntimeError: There is none; the message holds what the command said.
    """
    command = [sys.executable, "-m", "llmgateway", "keys", "create", "--name", "bench", "--budget-usd", "1000000000"]
    environment: Mapping[str, str] = ENVIRONMENT | {"LLMGATEWAY_DATA_DIR": str(data_dir), "HOME": os.devnull}
    made = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)  # noqa: S603 - ours
    if found := re.search(r"^key: (\S+)$", made.stdout, re.MULTILINE):
        return found[1]
    raise RuntimeError(f"no key could be made: {made.stdout}{made.stderr}")


def _catalog(upstream_port: int, *, translates: bool) -> dict[str, object]:
    base = f"http://127.0.0.1:{upstream_port}"
    accounts = {
        "openai": {"provider": "openai", "api_key": "${BENCH_KEY}", "api_base": f"{base}/v1"},
        "broken": {"provider": "openai", "api_key": "${BENCH_KEY}", "api_base": f"{base}/broken/v1"},
        "anthropic": {"provider": "anthropic", "api_key": "${BENCH_KEY}", "api_base": base},
    }
    offered = {name: ["openai"] for name in payloads.RELAYED}
    offered[payloads.FAILOVER] = ["broken", "openai"]
    if translates:
        offered |= {name: ["anthropic"] for name in (payloads.TRANSLATED, payloads.TRANSLATED_STREAM)}
    else:
        del accounts["anthropic"]
    models = [
        {
            "name": name,
            "deployments": [{"provider": one, "model": name, "prices_per_million": _PRICES} for one in providers],
        }
        for name, providers in offered.items()
    ]
    return {"providers": accounts, "models": models, "limits": {"operations": {"chat": _ENDLESS}}}
