"""A meeting of three hours becomes minutes: with the commands of the README, and with nothing of it lost."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.conftest import Serve
from tests.e2e.services.asking import ask, ended, order, ran
from tests.e2e.services.scribe import Scribe, add_flavor
from tests.e2e.services.transcript import DECISIONS, WORDS, Transcript, decisions_in, transcript
from tests.running import Running, opened
from tests.served import served
from tests.upstreams.server import Player

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"
_WITHIN_S = 60
TALK = "They talked about much, came to no decision, and will go on with it another time."
MINUTES = {"user_prompt": "Before:\n{{previous}}\n\nNow:\n{{document}}", "max_new_turns": 12, "summary_turns": 3}


@pytest.fixture(scope="module")
def meeting() -> Transcript:
    return transcript()


@pytest.fixture
def scribe() -> Scribe:
    """Writes down what was decided, and nothing else."""
    return Scribe(writes=lambda asked: "\n\n".join(decisions_in(asked)) or TALK)


def block(language: str) -> str:
    """Give the first block of that language in the section on documents."""
    section = README[README.index("\n## Documents\n") :]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


async def run(command: list[str], folder: Path) -> str:
    with anyio.fail_after(_WITHIN_S):
        done = await anyio.run_process(command, cwd=folder, stderr=None)
    return done.stdout.decode()


def test_the_transcript_is_what_it_says(meeting: Transcript) -> None:
    assert WORDS <= meeting.words < WORDS * 1.02
    assert len(set(meeting.decisions)) == DECISIONS
    assert decisions_in(meeting.text) == list(meeting.decisions)
    assert transcript() == meeting
    assert transcript(seed=2) != meeting


@pytest.mark.timeout(120)
async def test_the_commands_of_the_readme_make_minutes_of_it(tmp_path: Path, meeting: Transcript) -> None:
    commands = [shlex.split(line) for line in block("sh").splitlines() if line.startswith("curl ")]
    plan, order_it, watch, read, metrics = commands
    (tmp_path / "meeting.txt").write_text(meeting.text, encoding="utf-8")

    async with served(tmp_path) as g:
        await opened(g.client)

        async def shell(command: list[str], job_id: str = "") -> str:
            words = [word.replace(HERE, g.url).replace("$JOB", job_id) for word in command]
            return await run([*words, "--silent", "--show-error", "--fail"], tmp_path)

        shown = await run([sys.executable, "-c", block("python").replace(HERE, g.url)], tmp_path)
        planned = json.loads(await shell(plan))
        job_id = json.loads(await shell(order_it))["job_id"]
        events = await shell(watch, job_id)
        result = await shell(read, job_id)
        told = json.loads(await shell(metrics, job_id))

    assert shown == result
    assert "demo model" in result
    assert planned["calls"] == told["totals"]["passes"] > 10
    assert events.rstrip().splitlines()[-2].partition(" ")[2] == "complete"
    # Something of every part of the meeting.
    hours = {int(hour) for hour in re.findall(r"\[(\d\d):\d\d:\d\d\]", result)}
    assert hours == {0, 1, 2}


async def minutes(g: Running, **flavor: Any) -> dict[str, Any]:
    """Give the minutes another flavor."""
    service = await ask(g.client, "GET", "/services/meeting-minutes")
    return await add_flavor(g.client, service, "tested", **{**MINUTES, "output_type": "markdown", **flavor})


def small(catalog: str, context_length: int, max_output: int) -> str:
    """Give the models small windows."""
    limits = f"context_length: {context_length}\n            max_output_tokens: {max_output}"
    for name in ("chat", "other"):
        catalog = catalog.replace(f"- name: {name}", f"- name: {name}\n            {limits}")
    return catalog


async def test_the_minutes_hold_every_decision(
    gateway: Serve, catalog: str, provider: Player, meeting: Transcript
) -> None:
    g = await gateway(catalog)

    stream = await g.openai.chat.completions.create(
        model="service/meeting-minutes", messages=[{"role": "user", "content": meeting.text}], stream=True
    )
    text = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])

    assert decisions_in(text) == list(meeting.decisions)
    assert provider.requests_total > 20


async def test_a_tree_of_consolidations_loses_no_decision(gateway: Serve, catalog: str, meeting: Transcript) -> None:
    g = await gateway(small(catalog, 1500, 400))
    await minutes(g, processing_mode="map_reduce", reduce_summary=True, max_new_turns=4)

    job = await ran(g.client, meeting.text, "meeting-minutes", flavor_name="tested")

    kinds = [one["pass_type"] for one in job["passes"]]
    assert decisions_in(job["result"]) == list(meeting.decisions)
    assert kinds.count("map") == job["progress"]["total_batches"] > 40
    assert kinds.count("reduce") > 1


@pytest.mark.parametrize("mode", ["iterative", "map_reduce"])
async def test_another_flavor_that_goes_on_in_the_middle_loses_no_decision(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe, meeting: Transcript, mode: str
) -> None:
    g = await gateway(small(catalog, 8000, 500), retry__jobs__max_retries="0")
    first = await minutes(g, processing_mode=mode)
    service = await ask(g.client, "GET", "/services/meeting-minutes")
    cut = {**MINUTES, "max_new_turns": 7, "output_type": "markdown", "model": "other"}
    other = await add_flavor(g.client, service, "other", **{**cut, "processing_mode": mode})
    await ask(g.client, "PATCH", f"/flavors/{first['id']}", json={"failover_flavor_id": other["id"]})

    job_id = await order(g.client, meeting.text, "meeting-minutes", flavor_name="tested")
    await provider.until(lambda: provider.requests_total >= 8, 20)
    scribe.fails.add("gpt-4o")
    job = await ended(g.client, job_id)

    assert decisions_in(job["result"]) == list(meeting.decisions)
    assert {one["flavor_name"] for one in job["passes"]} == {"tested", "other"}
    assert (job["failover_applied"], job["final_flavor_name"]) == (True, "other")
    assert [one["flavor"] for one in job["failover_chain"]] == ["tested"]


async def test_a_window_that_does_not_take_it_at_once_goes_through_it_in_parts(
    gateway: Serve, catalog: str, meeting: Transcript
) -> None:
    g = await gateway(small(catalog, 8000, 500))

    job = await ran(g.client, meeting.text, "meeting-minutes", flavor_name="single-pass")

    assert decisions_in(job["result"]) == list(meeting.decisions)
    assert (job["fallback_applied"], job["original_flavor_name"]) == (True, "single-pass")
