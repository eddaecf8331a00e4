"""Errors as clients see them: http-api.md, section 4, and pitfalls, group G."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step, json_step, raw_step, redirect_step

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def any_model(provider: Player) -> str:
    """Write a catalog where every name is a model, `main/…`: what one answers is not held against the others."""
    return f"""
        providers: {{main: {{provider: openai, api_key: "${{KEY:-sk-upstream}}", api_base: "{provider.base}"}}}}
        models: [{{name: "*", passthrough: true}}]
    """


async def ask(served: Running, **fields: object) -> tuple[int, dict[str, object]]:
    answer = await served.client.post("/v1/chat/completions", json=CHAT | fields)
    return answer.status_code, answer.json().get("error", {})


@pytest.mark.parametrize(
    ("status", "body_code", "expected", "kind", "code"),
    [
        (400, "bad_thing", 400, "invalid_request_error", "bad_thing"),
        (401, "invalid_api_key", 502, "provider_error", "provider_auth_failed"),
        (403, None, 502, "provider_error", "provider_auth_failed"),
        (402, None, 502, "provider_error", "provider_quota_exhausted"),
        (404, "model_not_found", 404, "invalid_request_error", "model_not_found"),
        (422, None, 422, "invalid_request_error", "invalid_value"),
        (429, "insufficient_quota", 502, "provider_error", "provider_quota_exhausted"),
        (429, None, 429, "rate_limit_error", "provider_rate_limited"),
        (500, None, 502, "provider_error", "provider_unavailable"),
        (503, None, 502, "provider_error", "provider_unavailable"),
        (529, None, 502, "provider_error", "provider_unavailable"),
    ],
)
async def test_pitfall_059_a_providers_error_has_its_row(
    gateway: Serve,
    provider: Player,
    catalog: str,
    status: int,
    body_code: str | None,
    expected: int,
    kind: str,
    code: str,
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    provider.script(OpenAIWire().error(status, "What the provider says.", code=body_code))

    answered, error = await ask(served)

    assert (answered, error["type"], error["code"]) == (expected, kind, code)
    assert str(error["message"]).endswith("What the provider says.")
    assert {"message", "type", "param", "code", "request_id"} <= error.keys()


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (401, openai.InternalServerError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_the_sdk_raises_the_right_class(
    gateway: Serve, provider: Player, catalog: str, status: int, raised: type[Exception]
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    provider.script(OpenAIWire().error(status, "no"))

    with pytest.raises(raised):
        await served.openai.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])


async def test_a_prompt_that_does_not_fit_has_its_code(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.script(OpenAIWire().too_long())

    assert (await ask(served))[1]["code"] == "context_length_exceeded"
    assert provider.requests_total == 1


async def test_pitfall_034_a_provider_that_limits_says_when_to_come_again(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    provider.script(OpenAIWire().error(429, "slow down", retry_after="7"))

    answer = await served.client.post("/v1/chat/completions", json=CHAT)

    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("7", "7000")


@pytest.mark.alone
async def test_a_retry_after_as_a_date_is_honoured(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    provider.script(OpenAIWire().error(503, "later", retry_after=when))
    started = time.perf_counter()

    status, _ = await ask(served)

    assert status == 200
    assert 0.9 < time.perf_counter() - started < 4


@pytest.mark.alone
async def test_a_wait_beyond_the_deadline_is_not_waited(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.script(OpenAIWire().error(429, "slow down", retry_after="30"))
    started = time.perf_counter()

    answer = await served.client.post("/v1/chat/completions", json=CHAT, headers={"X-Timeout-Seconds": "3"})

    assert answer.status_code == 429
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "broken",
    [
        Step(headers={"content-type": "application/json"}, framing="length"),
        json_step({"choices": []}).cut(after_bytes=5),
        json_step({"choices": []}).cut(after_bytes=5, reset=True),
        raw_step(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n<html>..."),
        raw_step(b"\x00\x01garbage"),
        raw_step(b""),
    ],
)
async def test_a_broken_answer_is_a_bad_gateway_after_retries(
    gateway: Serve, provider: Player, catalog: str, broken: Step
) -> None:
    served = await gateway(catalog, retry__max_retries=1)
    provider.script(broken, broken)

    status, error = await ask(served)

    assert (status, error["code"]) == (502, "provider_unavailable")
    assert provider.requests_total == 2
    assert "127.0.0.1" not in str(error)


async def test_a_redirect_is_not_followed(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    async with Player(OpenAIWire()) as elsewhere:
        provider.script(redirect_step(f"{elsewhere.base}/chat/completions"))

        status, _ = await ask(served)

        assert status == 502
        assert elsewhere.connections == 0


async def test_pitfall_019_a_200_with_an_error_is_that_error(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.script(
        json_step({"error": {"message": "overloaded", "type": "overloaded_error"}}),
        json_step({"error": {"message": "no", "type": "invalid_request_error", "code": "bad_thing"}}),
    )

    status, error = await ask(served)

    assert (status, error["code"]) == (400, "bad_thing"), "the first was retried, the second is final"
    assert provider.requests_total == 2


async def test_an_unreachable_provider_is_named_without_its_address(gateway: Serve) -> None:
    served = await gateway(
        """
        providers: {main: {provider: openai, api_key: sk-x, api_base: "http://127.0.0.1:9/v1"}}
        models: [{name: chat, deployments: [{provider: main, model: m}]}]
        """,
        retry__max_retries=1,
    )

    status, error = await ask(served)

    assert (status, error["code"]) == (502, "provider_unavailable")
    assert "127.0.0.1" not in str(error)


async def test_pitfall_135_no_secret_or_address_reaches_a_client_or_the_log(gateway: Serve, provider: Player) -> None:
    environ = {"KEY": "sk-upstream-canary-0123456789"}
    served = await gateway(any_model(provider), environ=environ, retry__max_retries=0)
    told = "Key sk-upstream-canary-0123456789 at https://internal.example:8443/x (10.1.2.3:99): Bearer abc123def456"
    for status in (400, 401, 429, 500):
        provider.script(OpenAIWire().error(status, told))

        answer = await served.client.post("/v1/chat/completions", json=CHAT | {"model": f"main/{status}"})

        assert "[key removed]" in answer.text
        await served.logged("llm_request_error", request_id=answer.headers["x-gateway-request-id"])
        for secret in ("canary", "internal.example", "10.1.2.3", "abc123def456"):
            assert secret not in answer.text
            assert secret not in str(served.logs())


@given(st.integers(400, 599), st.text(max_size=40), st.lists(st.sampled_from(["401", "403", "429", "500", "404"])))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pitfall_056_digits_in_a_text_decide_nothing(status: int, text: str, digits: list[str]) -> None:
    from llmgateway.catalog.model import Account  # noqa: PLC0415  only this test speaks to the function
    from llmgateway.upstream.errors import upstream_error  # noqa: PLC0415

    account = Account("main", "openai", "openai")

    def mapped(message: str) -> tuple[int, str]:
        body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
        error = upstream_error(status, body, {}, account)
        return error.status, error.code

    assert mapped(text + " ".join(digits)) == mapped("plain")


async def test_pitfall_061_attempts_are_counted_in_the_answer(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, retry__max_retries=2)
    provider.always(OpenAIWire().error(500, "no"))

    answer = await served.client.post("/v1/chat/completions", json=CHAT)

    assert (answer.headers["x-attempts"], answer.headers["x-provider"]) == ("3", "main")
    assert answer.headers["x-gateway-request-id"] == answer.json()["error"]["request_id"]


async def test_pitfall_141_any_status_and_any_body_leave_the_worker_unharmed(gateway: Serve, provider: Player) -> None:
    served = await gateway(
        any_model(provider), retry__max_retries=1, retry__min_delay_s=0.001, retry__max_delay_s=0.002
    )
    bodies = [b"", b"{}", b"[]", b"null", b'{"error":null}', b'{"error":[1]}', b"\xff\xfe", b"<html>", b"[" * 9999]
    statuses = [*range(201, 230, 7), *range(300, 310), *range(400, 432), 451, *range(500, 512), 529, 599]

    for number, status in enumerate(statuses * 3):
        provider.always(Step(status=status, pieces=(json_step(0).pieces[0].__class__(bodies[number % len(bodies)]),)))
        asked = provider.requests_total
        answered, error = await ask(served, model=f"main/{number}")
        assert answered >= 400, (status, number)
        assert error["code"]
        assert provider.requests_total > asked

    provider.always(None)
    assert (await ask(served, model="main/0"))[0] == 200


async def test_a_conflict_is_retried_only_where_the_provider_says_so(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.script(OpenAIWire().error(409, "busy"))
    assert (await ask(served))[0] == 409

    provider.script(OpenAIWire().error(409, "busy").with_headers(x_should_retry="true"))
    assert (await ask(served))[0] == 200


@pytest.mark.alone
async def test_a_deadline_is_a_gateway_timeout(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.always(lambda step: step.delayed(5))
    started = time.perf_counter()

    answer = await served.client.post("/v1/chat/completions", json=CHAT, headers={"X-Timeout-Seconds": "0.3"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "provider_timeout")
    assert time.perf_counter() - started < 0.9
    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan"])
async def test_a_wrong_time_limit_is_refused(gateway: Serve, catalog: str, value: str) -> None:
    served = await gateway(catalog)

    answer = await served.client.post("/v1/chat/completions", json=CHAT, headers={"X-Timeout-Seconds": value})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "X-Timeout-Seconds")


async def test_an_unknown_model_names_its_nearest(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)

    status, error = await ask(served, model="chatt")

    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert isinstance(error["details"], dict)
    assert "chat" in error["details"]["available_models"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope/at-all", 404, "model_not_found"),
    ],
)
async def test_every_path_answers_in_the_envelope(
    gateway: Serve, catalog: str, method: str, path: str, status: int, code: str
) -> None:
    served = await gateway(catalog)

    answer = await served.client.request(method, path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_request_id_is_echoed_when_it_is_one(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)

    good = await served.client.get("/health", headers={"X-Request-ID": "my.id-1"})
    bad = await served.client.get("/health", headers={"X-Request-ID": "my id"})

    assert good.headers["x-request-id"] == "my.id-1"
    assert good.headers["x-gateway-request-id"].startswith("req_")
    assert bad.headers["x-request-id"] == bad.headers["x-gateway-request-id"]


@pytest.mark.alone
async def test_retries_stay_within_the_deadline(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, retry__max_retries=1000, retry__min_delay_s=0.05, retry__max_delay_s=0.1)
    provider.always(OpenAIWire().error(500, "no"))
    started = time.perf_counter()

    answer = await served.client.post("/v1/chat/completions", json=CHAT, headers={"X-Timeout-Seconds": "0.5"})

    assert answer.status_code in {502, 504}
    assert time.perf_counter() - started < 1.5
    await asyncio.sleep(0.2)
    assert provider.in_flight == 0
