"""Who takes part: how each is started in front of the mock provider, pinned, paused and ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 90
# Children get this and nothing else: no keys, no settings of whoever runs the benchmark.
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def _no_headers(*_: object) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program to be measured.

    Args:
        command: Makes the command line out of its own port and the mock's.
        ready: The path that answers 200 once it serves; `None`: it serves once it can be connected to.
        translates: Whether it also answers in OpenAI's words for a provider that speaks others.
        only: The scenarios it is there for; empty: all.
        headers: What it wants beside the usual headers, by the mock's port and the provider that is meant.
    """

    name: str
    title: str
    command: Callable[[int, int], list[str]]
    ready: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    translates: bool = False
    only: frozenset[str] = frozenset()
    headers: Callable[[int, str], Mapping[str, str]] = _no_headers


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
        self._upstream_port = upstream_port
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

    def headers(self, provider: str) -> Mapping[str, str]:
        """Give the headers that a request for a provider needs here."""
        return self.contestant.headers(self._upstream_port, provider)

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


def prototype(name: str, title: str) -> Contestant:
    """Describe one of the yardsticks."""

    def command(port: int, upstream_port: int) -> list[str]:
        upstream = f"http://127.0.0.1:{upstream_port}/v1/chat/completions"
        return [sys.executable, "-m", "bench.prototypes", name, "--port", str(port), "--upstream", upstream]

    return Contestant(name, title, command)
