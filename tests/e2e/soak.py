"""Mixed traffic for as long as wanted, and what the gateway holds meanwhile.

`python -m tests.e2e.soak --seconds 3600 --into docs/performance` writes the samples and a chart of them there.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from tests.served import Served, served
from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step, Wire

MIB = 1024**2
HOUR_S = 3600.0
_AT_ONCE = 16
_ANSWER_S = 0.02
# Some leave too late, after a kept answer: a twentieth is what is left.
_LEAVING, _FAILING = 0.06, 0.02
# Of the whole time: buffers fill, the allocator takes its share, libraries are loaded.
WARM_UP = 1 / 4
# Of the whole time: by the end of the warm-up, as many kept answers leave as come.
_KEPT = 1 / 12
# As often as each is in the traffic.
_KINDS = (
    ["relay"] * 7 + ["stream"] * 5 + ["cached"] * 3 + ["translated"] * 1 + ["translated stream"] * 2 + ["embed"] * 2
)
_TALK = [{"role": "system", "content": "Repeat what you are told."}, {"role": "user", "content": "so we said " * 12}]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the gateway's process held, resident, so many seconds after the traffic began."""

    at_s: float
    held_bytes: int


@dataclass
class Soak:
    """What came out of it; `seen` counts calls by kind, by status, and the reloads."""

    samples: list[Sample] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def after_warm_up(self) -> list[Sample]:
        from_s = self.samples[-1].at_s * WARM_UP
        return [sample for sample in self.samples if sample.at_s >= from_s]

    def growth_mib_an_hour(self) -> float:
        """Give the slope of the straight line through all that was sampled after the warm-up."""
        late = self.after_warm_up()
        line = statistics.linear_regression([one.at_s for one in late], [one.held_bytes for one in late])
        return line.slope * HOUR_S / MIB


def _catalog(relayed: Player, translated: Player, reload: int) -> str:
    return f"""
providers:
  main: {{provider: openai, api_key: {OpenAIWire().key}, api_base: "{relayed.base}"}}
  other: {{provider: anthropic, api_key: {AnthropicWire().key}, api_base: "{translated.base}"}}
models:
  - {{name: chat, defaults: {{user: "reload-{reload}"}}, deployments: [{{provider: main, model: gpt-4o}}]}}
  - {{name: embed, deployments: [{{provider: main, model: text-embedding-3-small}}]}}
  - {{name: claude, deployments: [{{provider: other, model: claude-sonnet-4-5}}]}}
"""


def _body(kind: str, number: int) -> tuple[str, dict[str, Any]]:
    if kind == "embed":
        return "/v1/embeddings", {"model": "embed", "input": ["so we said"], "user": f"u{number % 100}"}
    call: dict[str, Any] = {"model": "claude" if "translated" in kind else "chat", "messages": _TALK}
    if "translated" in kind:
        call["max_tokens"] = 200
    if kind == "cached":
        call |= {"temperature": 0, "seed": number % 50}
    if "stream" in kind:
        call["stream"] = True
    return "/v1/chat/completions", call


@asynccontextmanager
async def _played(wire: Wire, drawn: random.Random) -> AsyncIterator[Player]:
    """A provider that takes a while, and fails now and then."""

    def play(step: Step) -> Step:
        if drawn.random() < _FAILING:
            return player.wire.error(500, "The server had an error.")
        return step.paced(_ANSWER_S / 10).delayed(_ANSWER_S)

    async with Player(wire) as player:
        player.always(play)
        yield player


class _Crowd:
    """Those who ask: so many at once, each taking a breath between two calls."""

    def __init__(self, gateway: Served, soak: Soak, drawn: random.Random, *, pause_s: float) -> None:
        self._url = gateway.url
        self._seen = soak.seen
        self._drawn = drawn
        self._pause_s = pause_s
        self._numbers = itertools.count()

    async def ask_until(self, over: asyncio.Event) -> None:
        async with aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(30)) as session:
            while not over.is_set():
                await self._ask(session, next(self._numbers))
                await asyncio.sleep(self._pause_s * self._drawn.uniform(0.5, 1.5))

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        kind = self._drawn.choice(_KINDS)
        path, body = _body(kind, number)
        leaves = self._drawn.random() < _LEAVING
        self._seen[kind] += 1
        # Whoever leaves does so before the answer, or in the midst of a stream.
        patience_s = self._drawn.uniform(0, _ANSWER_S) if leaves else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s), session.post(path, json=body) as answer:
                self._seen[f"status {answer.status}"] += 1
                await answer.read()
                return
        self._seen["left"] += 1


async def soak(folder: Path, *, seconds: float, sample_s: float, reload_s: float, pause_s: float = 0.1) -> Soak:
    """Let sixteen ask for so many seconds, each about once in the pause; load the catalog anew from time to time."""
    found, over, drawn = Soak(), asyncio.Event(), random.Random(7)
    async with AsyncExitStack() as stack:
        relayed = await stack.enter_async_context(_played(OpenAIWire(), drawn))
        translated = await stack.enter_async_context(_played(AnthropicWire(), drawn))
        settings = {"retry__min_delay_s": 0.05, "retry__max_delay_s": 0.1, "cache__ttl_s": seconds * _KEPT}
        gateway = await stack.enter_async_context(
            served(folder, _catalog(relayed, translated, 0), settings=settings, measured=False)
        )
        crowd = _Crowd(gateway, found, drawn, pause_s=pause_s)
        process, began = psutil.Process(gateway.process_id), time.perf_counter()

        async def reload() -> None:
            for number in itertools.count(1):
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), reload_s)
                if over.is_set():
                    return
                (folder / "gateway.yaml").write_text(_catalog(relayed, translated, number))

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(crowd.ask_until(over))
            group.create_task(reload())
            while (at_s := time.perf_counter() - began) < seconds:
                found.samples.append(Sample(at_s, process.memory_info().rss))
                await asyncio.sleep(sample_s)
            over.set()
        found.samples.append(Sample(time.perf_counter() - began, process.memory_info().rss))
        found.seen["reloads"] = gateway.log_file.read_bytes().count(b'"catalog_reloaded"')
    return found


def chart(found: Soak) -> str:
    """Draw what was held over the time as SVG: the samples, and the line through those after the warm-up."""
    width, height, left, bottom = 800, 300, 60, 40
    most_s, most_mib = found.samples[-1].at_s, max(one.held_bytes for one in found.samples) / MIB * 1.2

    def place(at_s: float, mib: float) -> str:
        return f"{left + at_s / most_s * (width - left - 20):.1f},{(height - bottom) * (1 - mib / most_mib):.1f}"

    def text(at: str, words: str, anchor: str = "middle") -> str:
        x, y = at.split(",")
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'

    late = found.after_warm_up()
    line = statistics.linear_regression([one.at_s for one in late], [one.held_bytes / MIB for one in late])
    ends = (place(at_s, line.intercept + line.slope * at_s) for at_s in (late[0].at_s, late[-1].at_s))
    minutes = [most_s / 60 * part / 6 for part in range(7)]
    marks = [most_mib * part / 4 for part in range(4)]
    growth = f"resident memory, MiB, over minutes; {found.growth_mib_an_hour():+.2f} MiB an hour after the warm-up"
    points = " ".join(place(one.at_s, one.held_bytes / MIB) for one in found.samples)
    frame = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#444"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *(text(f"{left - 8},{float(place(0, mib).split(',')[1]) + 4:.1f}", f"{mib:.0f}", "end") for mib in marks),
        *(text(f"{place(at * 60, 0).split(',')[0]},{height - bottom + 20}", f"{at:.0f}") for at in minutes),
        *(f'<path d="M{place(0, mib)} L{place(most_s, mib)}" stroke="#ddd"/>' for mib in marks),
        f'<polyline fill="none" stroke="#2060c0" points="{points}"/>',
        f'<path d="M{" L".join(ends)}" stroke="#c03020" stroke-dasharray="6 4"/>',
        text(f"{width / 2},{height - 4}", growth),
        "</svg>\n",
    ]
    return "\n".join(drawn)


def written(found: Soak) -> str:
    """Give the samples, and what the traffic was, as JSON."""
    held = [[round(one.at_s, 1), one.held_bytes] for one in found.samples]
    growth = round(found.growth_mib_an_hour(), 3)
    return json.dumps({"growth_mib_an_hour": growth, "seen": dict(found.seen), "samples": held}) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Soak as told, and write what came out of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=HOUR_S)
    parser.add_argument("--reload", type=float, default=60.0, help="seconds between two catalogs")
    parser.add_argument("--sample", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two calls of each of sixteen")
    parser.add_argument("--into", type=Path, default=Path("docs/performance"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        timing = {"seconds": given.seconds, "sample_s": given.sample, "reload_s": given.reload}
        found = uvloop.run(soak(Path(folder), **timing, pause_s=given.pause))
    given.into.mkdir(parents=True, exist_ok=True)
    (given.into / "soak.svg").write_text(chart(found))
    (given.into / "soak.json").write_text(written(found))
    sys.stdout.write(f"{found.growth_mib_an_hour():+.2f} MiB an hour; {dict(found.seen)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
