"""The ledger's pages at a real gateway with its own SQLite: asked, answered, and read at once."""

import re
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest

from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.running import Running
from tests.telemetry.exchanges import until
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

CHAT: dict[str, Any] = {"model": "priced", "messages": [{"role": "user", "content": "Say something."}], "user": "ada"}


@pytest.fixture
async def served(gateway: Serve, provider: Player) -> Running:
    running = await gateway(
        f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}
        models:
          - name: priced
            deployments:
              - {{provider: main, model: gpt-4o, prices_per_million: {{input: 2.5, output: 10, cached: 1.25}}}}
          - name: unpriced
            deployments: [{{provider: main, model: nobody-knows-its-price}}]
        """,
        retry__max_retries=1,
        slow_request_s=0.001,
    )
    await ready(running)
    return running


async def ask(served: Running, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
    return await served.client.post("/v1/chat/completions", json=CHAT | fields, headers=headers or {})


async def record(served: Running, answer: httpx2.Response) -> dict[str, Any]:
    read = await served.client.get(f"/v1/requests/{answer.headers['x-gateway-request-id']}")
    assert read.status_code == 200, read.text
    told: dict[str, Any] = read.json()
    return told


async def usage(served: Running, **query: str) -> dict[str, Any]:
    read = await served.client.get("/v1/usage", params=query)
    assert read.status_code == 200, read.text
    told: dict[str, Any] = read.json()
    return told


async def test_an_answer_is_told_of_at_once_with_the_cost_of_its_header(served: Running) -> None:
    answer = await ask(served, {"X-Request-ID": "order-17", "X-Organization-ID": "acme"})
    told = await record(served, answer)

    tokens = answer.json()["usage"]
    assert (told["status"], told["operation"], told["stream"], told["user"]) == (200, "chat", False, "ada")
    assert (told["requested_model"], told["upstream_model"], told["provider"]) == ("priced", "gpt-4o", "main")
    assert told["usage"]["prompt_tokens"] == tokens["prompt_tokens"]
    assert told["cost_usd"] == pytest.approx(float(answer.headers["x-cost-usd"]), abs=1e-9)
    assert told["cost_usd"] > 0
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["ok"]
    by_client_id = await served.client.get("/v1/requests/order-17")
    assert by_client_id.json() == told


async def test_a_stream_is_told_of_with_its_cost_as_soon_as_it_is_over(served: Running) -> None:
    answer = await ask(served, stream=True)
    told = await record(served, answer)

    assert answer.text.endswith("data: [DONE]\n\n")
    assert "x-cost-usd" not in answer.headers
    assert told["stream"] is True
    assert told["cost_usd"] > 0
    assert told["usage"]["estimated"] is False
    assert told["timings"]["time_to_first_token_ms"] > 0
    assert told["attempts"][0]["time_to_first_token_ms"] > 0


async def test_usage_has_what_the_caller_just_did(served: Running) -> None:
    costs = [(await record(served, await ask(served)))["cost_usd"] for _ in range(3)]
    told = await usage(served, group_by="model,provider,user")

    assert [(row["model"], row["provider"], row["user"], row["requests"]) for row in told["data"]] == [
        ("priced", "main", "ada", 3)
    ]
    assert told["total"]["cost_usd"] == pytest.approx(sum(costs), abs=1e-9)
    assert told["total"]["errors"] == 0


async def test_pitfall_037_an_unknown_price_is_null_and_counted_everywhere(served: Running) -> None:
    answer = await ask(served, model="unpriced")

    assert "x-cost-usd" not in answer.headers
    assert (await record(served, answer))["cost_usd"] is None
    total = (await usage(served))["total"]
    assert (total["cost_usd"], total["unpriced_requests"]) == (None, 1)


async def test_a_failure_has_its_row_with_every_attempt(served: Running, provider: Player) -> None:
    provider.always(OpenAIWire().error(500, "broken"))
    failed = await record(served, await ask(served))
    wrong = await record(served, await ask(served, messages=[]))
    unknown = await record(served, await ask(served, model="no/such"))

    assert (failed["status"], failed["error_code"], failed["provider"]) == (502, "provider_unavailable", "main")
    assert [(at["outcome"], at["upstream_status"]) for at in failed["attempts"]] == [("provider_unavailable", 500)] * 2
    assert failed["usage"] is None
    assert (wrong["status"], wrong["error_code"], wrong["attempts"]) == (400, "invalid_value", [])
    assert (unknown["status"], unknown["error_code"], unknown["model"]) == (404, "model_not_found", "other")
    total = (await usage(served))["total"]
    assert (total["requests"], total["errors"], total["unpriced_requests"]) == (3, 3, 0)


async def test_pitfall_024_a_stream_that_its_client_left_is_told_of_with_what_it_used(
    served: Running, provider: Player
) -> None:
    provider.always(lambda step: step.silent(pieces=2))

    async def left() -> str:
        async with served.client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as stream:
            await anext(stream.aiter_bytes())
            return stream.headers["x-gateway-request-id"]

    async def found(request_id: str) -> bool:
        return (await served.client.get(f"/v1/requests/{request_id}")).status_code == 200

    # The first to be counted loads the tokenizer's table, which a busy machine takes seconds for.
    await until(partial(found, await left()))
    # It is over when the gateway has noticed: this question waits for it.
    answer = await served.client.get(f"/v1/requests/{await left()}")
    assert answer.status_code == 200, answer.text
    told = answer.json()

    assert (told["status"], told["error_code"]) == (499, "client_closed_request")
    assert told["attempts"][0]["outcome"] == "cancelled"
    assert told["usage"]["estimated"] is True
    assert told["usage"]["prompt_tokens"] > 0
    assert told["cost_usd"] > 0


async def test_a_foreign_organization_finds_nothing(served: Running) -> None:
    answer = await ask(served, {"X-Request-ID": "order-18", "X-Organization-ID": "acme"})
    await usage(served)  # in the database by now, as well as in memory
    ours = answer.headers["x-gateway-request-id"]

    async def read(path: str, organization: str) -> httpx2.Response:
        return await served.client.get(path, headers={"X-Organization-ID": organization})

    for request_id in (ours, "order-18"):
        assert (await read(f"/v1/requests/{request_id}", "acme")).json()["id"] == ours
        foreign = await read(f"/v1/requests/{request_id}", "evil")
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "not_found")
    assert (await read("/v1/usage", "acme")).json()["total"]["requests"] == 1
    assert (await read("/v1/usage", "evil")).json()["total"]["requests"] == 0
    assert (await read("/v1/usage?organization_id=acme", "evil")).status_code == 404


async def test_what_is_no_id_and_no_group_is_refused_and_harms_nothing(served: Running) -> None:
    answer = await ask(served, user="Robert'); DROP TABLE ledger; --")
    for path in ("/v1/requests/'%20OR%20'1'='1", "/v1/requests/" + "a" * 9000, "/v1/requests/%00", "/v1/requests/x%27"):
        assert (await served.client.get(path)).status_code == 404, path
    for query in ("group_by=1;DROP TABLE ledger", "from='' OR 1=1", "organization_id=' OR '1'='1", "hours=1"):
        name, _, value = query.partition("=")
        assert (await served.client.get("/v1/usage", params={name: value})).status_code == 400, query

    told = await usage(served, group_by="user")
    assert [row["user"] for row in told["data"]] == ["Robert'); DROP TABLE ledger; --"]
    assert (await record(served, answer))["user"] == "Robert'); DROP TABLE ledger; --"


async def test_a_spreadsheet_gets_no_formula(served: Running) -> None:
    await ask(served, user="=HYPERLINK(1)")

    table = await served.client.get("/v1/usage?group_by=user", headers={"Accept": "text/csv"})

    assert table.headers["content-type"].startswith("text/csv")
    assert "\r\n'=HYPERLINK(1)," in table.text


async def test_reports_tell_of_what_just_happened(served: Running, provider: Player) -> None:
    good = await record(served, await ask(served))
    provider.always(OpenAIWire().error(503, "overloaded"))
    await ask(served)

    performance, trends, costs = [
        (await served.client.get(f"/metrics/{name}?hours=2")).json() for name in ("performance", "trends", "costs")
    ]

    assert good["id"] in {slow["id"] for slow in performance["slow_requests"]}
    main = performance["by_provider"]["main"]
    assert (main["requests"], main["success_rate"]) == (2, 0.5)
    assert main["error_breakdown"] == {"provider_unavailable": 1}
    assert 0 < main["p50"] <= main["p95"] <= main["p99"]
    assert sum(hour["requests"] for hour in trends["data"]) == 2
    assert costs["total_cost_usd"] == good["cost_usd"]
    assert [dear["id"] for dear in costs["most_expensive"]] == [good["id"]]
    assert (costs["by_user"][0]["user"], costs["by_model"][0]["model"]) == ("ada", "priced")


async def test_health_in_detail_knows_the_provider_by_what_passed(served: Running, provider: Player) -> None:
    async def main() -> tuple[bool, str, str | None, str]:
        told = (await served.client.get("/health/detailed")).json()["providers"]["main"]
        return told["available"], told["status"], told["error"], told["circuit"]

    before = await main()
    await ask(served)
    good = await main()
    provider.script(OpenAIWire().error(400, "no such thing", code="bad_thing"))
    await ask(served)
    refused = await main()
    provider.always(OpenAIWire().error(500, "broken"))
    await ask(served)

    assert before == (True, "unknown", None, "closed")
    assert good == refused == (True, "healthy", None, "closed")
    assert await main() == (True, "unhealthy", "provider_unavailable", "closed")


async def test_health_in_detail_names_who_rests_and_says_when_nobody_is_left(served: Running, provider: Player) -> None:
    async def main_after(model: str) -> tuple[bool, str, list[tuple[str, str]]]:
        await ask(served, model=model)
        told = (await served.client.get("/health/detailed")).json()["providers"]["main"]
        return told["available"], told["circuit"], [(rest["model"], rest["cause"]) for rest in told["resting"]]

    provider.always(OpenAIWire().error(401, "no such key", code="invalid_api_key"))
    one, both = await main_after("priced"), await main_after("unpriced")

    assert one == (True, "open", [("gpt-4o", "auth")])
    assert both == (False, "open", [("gpt-4o", "auth"), ("nobody-knows-its-price", "auth")])


async def test_many_questions_at_once_are_all_answered(served: Running) -> None:
    for _ in range(5):
        await ask(served)
    statuses: list[int] = []

    async def one(path: str) -> None:
        statuses.append((await served.client.get(path)).status_code)

    async with anyio.create_task_group() as group:
        for path in (
            "/v1/usage?group_by=model,day,user",
            "/metrics/performance",
            "/metrics/costs",
            "/metrics/trends",
        ) * 6:
            group.start_soon(one, path)

    assert statuses == [200] * 24
    assert not [line for line in served.logs() if re.search("unexpected", line["event"])]
