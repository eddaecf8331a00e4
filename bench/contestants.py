"""Who takes part: how each is started in front of the mock provider, pinned, paused and ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench import litellm_proxy, nginx, payloads

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 90
_ENDLESS = 100_000_000  # requests a minute
# Children get this and nothing else: no keys, no settings of whoever runs the benchmark.
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program to be measured.

    Args:
        command: Makes the command line out of its own port and the mock's.
        ready: The path that answers 200 once it serves; `None`: it serves once it can be connected to.
        translates: Whether it also answers in OpenAI's words for a provider that speaks others.
        only: The scenarios it is there for; empty: all.
    """

    name: str
    title: str
    command: Callable[[int, int], list[str]]
    ready: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    translates: bool = False
    only: frozenset[str] = frozenset()


def free_port() -> int:
    """Ask the kernel for a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin what is started inside to one core, by inheritance."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def answers(port: int, path: str | None) -> bool:
    """Say whether a program serves on a port by now."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        if path is None:
            return True
        link.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
        return b" 200 " in link.recv(64)
    return False


class Running:
    """A started program; its port and the seconds from exec until it served are its fields."""

    def __init__(self, contestant: Contestant, core: int, upstream_port: int, logs: Path) -> None:
        """Start it and wait until it serves.

        Raises:
            RuntimeError: It ended, or did not serve in time; the message names its log.
        """
        self.contestant = contestant
        self.port = free_port()
        self._log = (logs / f"{contestant.name}.log").open("ab")
        command = contestant.command(self.port, upstream_port)
        environment = ENVIRONMENT | dict(contestant.environment) | {"HOME": str(logs)}
        with on_core(core):
            started_s = time.perf_counter()
            self._program = subprocess.Popen(  # noqa: S603 - commands of ours
                command, env=environment, cwd=logs, stdout=self._log, stderr=self._log, start_new_session=True
            )
        self._wait(contestant.ready, started_s)
        self.start_s = time.perf_counter() - started_s

    def _wait(self, ready: str | None, started_s: float) -> None:
        while not answers(self.port, ready):
            ended = self._program.poll() is not None
            if ended or time.perf_counter() - started_s > START_TIMEOUT_S:
                self.stop()
                what = "ended at once" if ended else f"does not serve after {START_TIMEOUT_S} s"
                raise RuntimeError(
                    f"{self.contestant.name} {what}; see {self._log.name}, or leave it out with --without"
                )
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        """Give the program's own id; children have others."""
        return self._program.pid

    def pause(self) -> None:
        """Keep it and its children from using the core while another is measured."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and its children."""
        with contextlib.suppress(ProcessLookupError):
            self.resume()
            os.killpg(self.pid, signal.SIGTERM)
        try:
            self._program.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._program.wait()
        self._log.close()


def mock(name: str = "mock", delay_ms: float = 0.0) -> Contestant:
    """Describe the provider everybody is put in front of."""
    command = [sys.executable, "-m", "bench.mock", "--delay-ms", str(delay_ms), "--port"]
    return Contestant(name, "mock provider", lambda port, _: [*command, str(port)])


def gateway(folder: Path, *, translates: bool = True) -> Contestant:
    """Describe this gateway as it comes: one worker, all middleware, JSON log lines into a file, ledger, metrics.

    A tenth of the requests is traced, and the spans are sent to the mock, which takes anything.

    Args:
        folder: Where its catalog and what it stores go.
        translates: Whether its catalog has a provider with another wire; without one it never loads LiteLLM.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def command(port: int, upstream_port: int) -> list[str]:
        (folder / "gateway.yaml").write_text(json.dumps(_catalog(upstream_port, translates=translates), indent=1))
        traces = f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:{upstream_port}/v1/traces"
        return ["env", traces, sys.executable, "-m", "llmgateway", "serve", "--port", str(port)]

    settings = {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "LLMGATEWAY_CATALOG": str(folder / "gateway.yaml"),
        "LLMGATEWAY_DATA_DIR": str(folder / "data"),
        "LLMGATEWAY_LOG_FORMAT": "json",
        "BENCH_KEY": "sk-bench",
    }
    environment = tuple(settings.items())
    name = "gateway" if translates else "gateway-relay"
    return Contestant(name, "this gateway", command, "/health", environment, translates=translates)


def protected(folder: Path) -> Contestant:
    """Describe this gateway with a key to check, four limits to count, and a cache: none of them ever says no."""
    plain = gateway(folder, translates=False)
    settings = {
        "LLMGATEWAY_AUTH__MODE": "gateway",
        "LLMGATEWAY_AUTH__GATEWAY_KEYS": payloads.KEY,
        "LLMGATEWAY_LIMITS__REQUESTS_PER_MINUTE": str(_ENDLESS),
        "LLMGATEWAY_LIMITS__REQUESTS_PER_HOUR": str(_ENDLESS * 60),
        "LLMGATEWAY_LIMITS__TOKENS_PER_MINUTE": str(_ENDLESS * 1000),
        "LLMGATEWAY_LIMITS__BURST": str(_ENDLESS),
    }
    return replace(
        plain,
        name="protected",
        title="this gateway with key and limits",
        environment=(*plain.environment, *settings.items()),
        only=frozenset({"small", "hit"}),
    )


def _catalog(upstream_port: int, *, translates: bool) -> dict[str, object]:
    base = f"http://127.0.0.1:{upstream_port}"
    accounts = {
        "openai": {"provider": "openai", "api_key": "${BENCH_KEY}", "api_base": f"{base}/v1"},
        "anthropic": {"provider": "anthropic", "api_key": "${BENCH_KEY}", "api_base": base},
    }
    if not translates:
        del accounts["anthropic"]
    offered = {
        payloads.SMALL: "openai",
        payloads.BURST: "openai",
        payloads.PACED: "openai",
        payloads.TRANSLATED: "anthropic",
    }
    models = [
        {"name": name, "deployments": [{"provider": provider, "model": name}]}
        for name, provider in offered.items()
        if provider in accounts
    ]
    return {"providers": accounts, "models": models, "limits": {"operations": {"chat": _ENDLESS}}}


def prototype(name: str, title: str) -> Contestant:
    """Describe one of the yardsticks."""

    def command(port: int, upstream_port: int) -> list[str]:
        upstream = f"http://127.0.0.1:{upstream_port}/v1/chat/completions"
        return [sys.executable, "-m", "bench.prototypes", name, "--port", str(port), "--upstream", upstream]

    return Contestant(name, title, command)


def lineup(without: set[str], cache: Path) -> list[Contestant]:
    """Put together who takes part, in the order of measuring; say who is left out and why."""
    work = cache / "bench-run"
    chosen = [
        prototype("null", "null ASGI app (answers by itself)"),
        prototype("raw", "bare raw ASGI + aiohttp relay"),
        prototype("starlette", "Starlette + aiohttp relay"),
        gateway(work / "gateway"),
        protected(work / "protected"),
    ]
    if "nginx" not in without:
        if program := nginx.find(cache):
            chosen.append(_nginx(program, work))
        else:
            print("nginx: left out, neither installed nor to be had as a Debian package")
    if "litellm" not in without:
        program = litellm_proxy.install(cache)
        chosen += [_litellm(program, work), _litellm_cache(program, work)]
    return [contestant for contestant in chosen if contestant.name not in without]


def _nginx(program: Path, work: Path) -> Contestant:
    return Contestant(
        "nginx", "nginx as reverse proxy", lambda port, upstream: nginx.command(program, work / "nginx", port, upstream)
    )


def _litellm(program: Path, work: Path) -> Contestant:
    return Contestant(
        "litellm",
        f"LiteLLM proxy {litellm_proxy.VERSION}, no database",
        lambda port, upstream: litellm_proxy.command(program, work / "litellm", port, upstream),
        "/health/liveliness",
        (("LITELLM_LOCAL_MODEL_COST_MAP", "True"),),
        translates=True,
    )


def _litellm_cache(program: Path, work: Path) -> Contestant:
    folder = work / "litellm-cache"
    return replace(
        _litellm(program, work),
        name="litellm-cache",
        title=f"LiteLLM proxy {litellm_proxy.VERSION} with its memory cache",
        command=lambda port, upstream: litellm_proxy.command(program, folder, port, upstream, cache=True),
        only=frozenset({"hit"}),
    )
