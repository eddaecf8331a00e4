"""What an operator sees of traffic (pitfalls, group M): each request once, however it ended and whoever served it."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import httpx2
import msgspec
import openai
import pytest

from llmgateway.telemetry.metrics.figures import Figures
from tests.conftest import Serve
from tests.e2e.test_disconnects import leave_after
from tests.running import Running
from tests.served import Served, served
from tests.telemetry.exchanges import Scrape, scraped, scraped_open, until
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "tell me of the sea, please"}]}
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture
async def failing() -> AsyncIterator[Player]:
    async with Player(OpenAIWire()) as player:
        player.always(player.wire.error(503, "down"))
        yield player


@pytest.fixture
def two(provider: Player, failing: Player) -> str:
    """Two models at a good provider, one at a provider that fails."""
    return f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}
          broken: {{provider: openai, api_key: sk-upstream, api_base: "{failing.base}"}}
        models:
          - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
          - {{name: small, deployments: [{{provider: main, model: gpt-4o-mini}}]}}
          - {{name: down, deployments: [{{provider: broken, model: gpt-4o}}]}}
          - {{name: embed, deployments: [{{provider: main, model: text-embedding-3-small}}]}}
    """


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    answer = await client.get("/metrics", headers={"connection": "close"})
    assert answer.status_code == 200
    return scraped(answer.content)


async def counted(client: httpx2.AsyncClient, requests: int) -> Scrape:
    """Scrape until so many requests are counted; more is wrong as well."""
    last = await scrape(client)

    async def complete() -> bool:
        nonlocal last
        last = await scrape(client)
        return (last.of("llm_requests_total") or 0) >= requests

    await until(complete)
    assert last.of("llm_requests_total") == requests
    return last


async def ask(served: Running, status: int, **fields: object) -> None:
    answer = await served.client.post("/v1/chat/completions", json=CHAT | fields)
    assert answer.status_code == status


async def traffic(served: Running, provider: Player) -> int:
    """Everything that can become of a request. Returns how many there were."""
    for model in ("chat", "small"):
        await ask(served, 200, model=model)
        await ask(served, 200, model=model, stream=True)
    await ask(served, 502, model="down")
    await ask(served, 404, model="nobody/knows-this")
    await ask(served, 400, messages=7)
    await served.openai.embeddings.create(model="embed", input="words")
    provider.script(lambda step: step.cut(pieces=2))
    await ask(served, 200, stream=True)
    provider.script(lambda step: step.delayed(10))
    await leave_after(served, 0.15)
    provider.script(lambda step: step.silent(pieces=2))
    await leave_after(served, 0.3, stream=True)
    provider.script(lambda step: step.delayed(10))
    late = await served.client.post("/v1/chat/completions", json=CHAT, headers={"x-timeout-seconds": "0.2"})
    assert late.status_code == 504
    return 12


async def test_pitfall_098_all_that_was_sent_is_counted_once(gateway: Serve, provider: Player, two: str) -> None:
    served = await gateway(two, retry__max_retries=1)

    sent = await traffic(served, provider)

    page = await counted(served.client, sent)
    by_status = {s: page.of("llm_requests_total", status=s) for s in page.labels("llm_requests_total", "status")}
    assert by_status == {"200": 6, "400": 1, "404": 1, "499": 2, "502": 1, "504": 1}
    assert page.of("llm_request_duration_seconds_count") == sent
    assert page.of("llm_overhead_seconds_count") == sent
    assert page.of("llm_cache_requests_total") == sent
    assert page.labels("llm_requests_total", "model") == {"chat", "small", "down", "embed", "other"}
    assert page.labels("llm_requests_total", "provider") == {"main", "broken", "none"}
    assert page.of("llm_client_disconnects_total", phase="before_first_byte") == 1
    assert page.of("llm_client_disconnects_total", phase="streaming") == 1
    assert page.of("llm_streams_truncated_total", provider="main") == 1
    assert page.of("llm_retries_total", provider="broken") == 1
    assert page.of("llm_attempts_total", provider="broken", outcome="provider_unavailable") == 2
    assert page.of("llm_attempts_total", provider="main", outcome="provider_timeout") == 1
    assert page.of("llm_time_to_first_token_seconds_count", provider="main") == 4
    assert page.of("llm_time_per_output_token_seconds_count", model="small") == 1
    assert page.of("llm_active_requests") == 0
    assert page.of("llm_active_streams") == 0


async def test_tokens_and_cost_are_the_providers(gateway: Serve, two: str) -> None:
    served = await gateway(two)
    first = await served.openai.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hello"}])
    assert first.usage is not None

    page = await counted(served.client, 1)

    tokens = {kind: page.of("llm_tokens_total", model="chat", kind=kind) for kind in ("input", "output")}
    assert tokens == {"input": first.usage.prompt_tokens, "output": first.usage.completion_tokens}
    assert (page.of("llm_cost_usd_total", model="chat", provider="main") or 0) > 0
    assert page.of("llm_price_unknown_total", model="chat") == 0
    summary = (await served.client.get("/metrics", headers={"accept": "application/json"})).json()
    assert summary["total_tokens_used"] == first.usage.total_tokens
    assert summary["total_cost"] == pytest.approx(page.of("llm_cost_usd_total"))


async def test_a_stream_that_breaks_off_is_counted_with_the_tokens_it_gave(
    gateway: Serve, provider: Player, two: str
) -> None:
    served = await gateway(two)
    provider.script(lambda step: step.cut(pieces=3))
    await ask(served, 200, stream=True)

    page = await counted(served.client, 1)

    assert page.of("llm_usage_estimated_total", model="chat", provider="main") == 1
    assert (page.of("llm_tokens_total", kind="input") or 0) > 0


async def test_running_streams_are_seen(gateway: Serve, provider: Player, two: str) -> None:
    served = await gateway(two)
    provider.script(lambda step: step.silent(pieces=2))
    async with served.client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
        # Kept: without it the connection would be closed.
        pieces = answer.aiter_bytes()
        await anext(pieces)
        page = await scrape(served.client)
        summary = (await served.client.get("/v1/health/metrics")).json()

    assert page.of("llm_active_requests") == 1
    assert page.of("llm_active_streams") == 1
    assert page.of("llm_upstream_connections", provider="main", state="busy") == 1
    assert summary["active_requests"] == 1


async def test_both_forms_of_the_text_and_the_summary_are_served(gateway: Serve, two: str) -> None:
    served = await gateway(two)
    await ask(served, 200)

    as_open = await served.client.get("/metrics", headers={"accept": OPEN_METRICS})
    summary = (await served.client.get("/v1/health/metrics")).json()

    assert as_open.headers["content-type"].startswith("application/openmetrics-text")
    assert scraped_open(as_open.content).of("llm_requests_total") == 1
    assert (summary["total_requests"], summary["requests_by_model"]) == (1, {"chat": 1})
    assert summary["p50_response_time"] > 0


async def test_the_text_can_be_turned_off(gateway: Serve, two: str) -> None:
    served = await gateway(two, prometheus=False)

    text = await served.client.get("/metrics")
    summary = await served.client.get("/metrics", headers={"accept": "application/json"})

    assert (text.status_code, text.json()["error"]["code"]) == (404, "not_found")
    assert summary.json()["total_requests"] == 0


@pytest.mark.alone
async def test_pitfall_096_thousands_of_made_up_names_add_one_label(gateway: Serve, two: str) -> None:
    served = await gateway(two)
    await ask(served, 404, model="nobody-0")
    before = (await scrape(served.client)).lasting().keys()

    async def many(part: int) -> None:
        for number in range(part, 2_000, 20):
            await ask(served, 404, model=f"nobody-{number}")

    async with anyio.create_task_group() as group:
        for part in range(20):
            group.start_soon(many, part)

    page = await counted(served.client, 2_001)
    assert page.lasting().keys() == before
    assert page.labels("llm_requests_total", "model") == {"other"}


async def test_a_key_or_a_prompt_is_in_no_metric(gateway: Serve, two: str) -> None:
    """pitfall 99."""
    served = await gateway(two)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-the-clients-own", max_retries=0) as client:
        await client.chat.completions.create(
            model="chat", user="a-user", messages=[{"role": "user", "content": "canary prompt"}]
        )

    text = (await served.client.get("/metrics")).text

    assert not [word for word in ("sk-the-clients-own", "sk-upstream", "canary", "a-user") if word in text]


def workers_of(folder: Path) -> dict[int, Figures]:
    """Read what each living or dead worker has left for the others, by its process id."""
    found = {}
    for path in folder.glob("data/workers/**/*.metrics"):
        try:
            found[int(path.name.split("-")[0])] = msgspec.msgpack.decode(path.read_bytes(), type=Figures)
        except FileNotFoundError:
            continue
    return found


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


class Clients:
    """Ask until every worker has had its share; each request on a connection of its own, so that either may get it."""

    def __init__(self, gateway: Served, folder: Path) -> None:
        self._gateway = gateway
        self._folder = folder
        self.sent = 0

    async def ask(self, count: int) -> None:
        limiter = anyio.CapacityLimiter(8)

        async def one() -> None:
            async with limiter:
                headers = {"connection": "close"}
                answer = await self._gateway.client.post("/v1/chat/completions", json=CHAT, headers=headers)
                assert answer.status_code == 200
                self.sent += 1

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)

    async def until_both_answered(self) -> None:
        def both() -> bool:
            figures = [f for pid, f in workers_of(self._folder).items() if is_alive(pid)]
            return sum(any(f.counters["llm_requests_total"].values()) for f in figures) >= 2

        with anyio.fail_after(20):
            while True:
                await self.ask(20)
                await anyio.sleep(0.3)  # a snapshot is a quarter of a second behind
                if both():
                    return


def went_back(before: Scrape, after: Scrape) -> dict[object, tuple[float, float | None]]:
    later = after.lasting()
    return {key: (was, later.get(key)) for key, was in before.lasting().items() if later.get(key, -1.0) < was}


async def watched(client: httpx2.AsyncClient, act: Callable[[], Awaitable[None]]) -> Scrape:
    """Scrape all the while something happens: no scrape shows less than the one before it."""
    page = await scrape(client)
    over = anyio.Event()

    async def look() -> None:
        nonlocal page
        while not over.is_set():
            try:
                now = await scrape(client)
            except httpx2.TransportError:  # accepted by the one that was killed
                continue
            assert went_back(page, now) == {}
            page = now
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await act()
        over.set()
    return page


@pytest.mark.timeout(120)
async def test_two_workers_add_up_and_a_killed_one_takes_nothing_back(tmp_path: Path, two: str) -> None:
    async with served(tmp_path, two, settings={"workers": 2, "log_format": "json"}) as gateway:
        clients = Clients(gateway, tmp_path)
        await clients.until_both_answered()
        page = await counted(gateway.client, clients.sent)
        assert page.of("llm_workers") == 2
        assert (await gateway.client.get("/v1/health/metrics")).json()["total_requests"] == clients.sent
        victim = next(pid for pid in workers_of(tmp_path) if is_alive(pid))

        async def kill_one() -> None:
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len([pid for pid in workers_of(tmp_path) if is_alive(pid) and pid != victim]) == 2)

        after = await watched(gateway.client, kill_one)
        assert went_back(page, after) == {}
        assert after.of("llm_requests_total") == clients.sent

        await clients.until_both_answered()
        page = await counted(gateway.client, clients.sent)
        assert page.of("llm_workers") == 2
        assert page.of("llm_active_requests") == 0
        assert page.of("llm_requests_total", status="200") == clients.sent
