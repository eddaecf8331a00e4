from typing import Any

import pytest

from llmgateway.errors import ClientGoneError, UpstreamError
from tests.documents_api.library import ACME, BETA, Library

SETTINGS = {"temperature": 0.5, "custom_params": {"seed": 7}, "stop": ["END"]}


async def test_a_flavor_is_asked_once_with_its_settings(library: Library) -> None:
    flavor = {"name": "one", "model": "chat", "system_prompt": "In {{language}}.{{instructions}}", **SETTINGS}
    service = await library.made(flavors=[flavor])

    shown = await library.ask("POST", f"/flavors/{service['flavors'][0]['id']}/test", {"prompt": "Hi {{document}}"})

    [(exchange, body)] = library.asked
    assert (body["model"], body["temperature"], body["seed"], body["stop"]) == ("chat", 0.5, 7, ["END"])
    assert body["messages"] == [
        {"role": "system", "content": "In the language of the document."},
        {"role": "user", "content": "Hi {{document}}"},
    ]
    assert body["max_tokens"] > 0
    assert (shown["content"], shown["finish_reason"], shown["provider"]) == ("Well.", "stop", "main")
    assert (shown["prompt_tokens"], shown["completion_tokens"], shown["cost_usd"]) == (3, 2, 0.002)
    assert shown["request_id"] == exchange.id
    assert library.recorded == [exchange]
    assert (exchange.status, exchange.error_code) == (200, None)


async def test_a_key_for_the_service_needs_none_for_its_model(library: Library) -> None:
    library.become(BETA)
    made = await library.made(flavors=[{"name": "one", "model": "private"}])
    path = f"/flavors/{made['flavors'][0]['id']}/test"
    library.become(ACME, "beta")

    error = await library.refused("POST", path, {"prompt": "Hi"}, status=403)
    assert error["error_code"] == "MODEL_NOT_ALLOWED"
    assert not library.asked
    library.become(type(ACME)(kind="client", key_id="k", organization="beta", models=("service/notes",)))
    await library.ask("POST", path, {"prompt": "Hi"})
    assert library.asked[0][0].caller.models is None


@pytest.mark.parametrize(
    ("failure", "status"), [(UpstreamError("It fell over."), 502), (ClientGoneError("It left."), 499)]
)
async def test_a_call_that_failed_is_written_down_as_well(library: Library, failure: Exception, status: int) -> None:
    service = await library.made()
    library.failure = failure
    if status == 502:
        await library.client.post(f"/api/v1/flavors/{service['flavors'][0]['id']}/test", json={"prompt": "Hi"})
    else:
        with pytest.raises(AssertionError):  # nobody is left to be answered
            await library.client.post(f"/api/v1/flavors/{service['flavors'][0]['id']}/test", json={"prompt": "Hi"})

    assert [exchange.status for exchange in library.recorded] == [status]


async def test_a_bug_is_written_down_as_one(library: Library) -> None:
    service = await library.made()
    library.failure = ZeroDivisionError()

    await library.client.post(f"/api/v1/flavors/{service['flavors'][0]['id']}/test", json={"prompt": "Hi"})

    assert [exchange.status for exchange in library.recorded] == [500]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "{} {}"}, {"valid": True, "placeholders": ["document", "previous"]}),
        ({"prompt": "{}"}, {"valid": False, "required": 2, "actual": 1, "error_code": "PROMPT_INVALID"}),
        ({"prompt": "{}", "processing_mode": "single_pass"}, {"valid": True, "placeholders": ["document"]}),
        ({"prompt": "x", "use": "system"}, {"valid": True}),
        ({"prompt": "{{document}}", "use": "system"}, {"valid": False, "required": 0, "actual": 1}),
        ({"prompt": "{}", "use": "reduce"}, {"valid": True, "message": None}),
    ],
)
async def test_a_prompt_can_be_checked_before_it_is_kept(library: Library, body: Any, expected: Any) -> None:
    verdict = await library.ask("POST", "/flavors/validate-prompt", body)

    assert {name: verdict[name] for name in expected} == expected


async def test_a_prompt_is_checked_by_its_id_too(library: Library) -> None:
    prompt = await library.ask("POST", "/prompts", {"name": "a", "content": "{}", "category": "user"})

    assert (await library.ask("POST", "/flavors/validate-prompt", {"prompt": prompt["id"]}))["required"] == 2
    library.become(ACME)
    own = await library.ask("POST", "/prompts", {"name": "a", "content": "{} {}", "category": "user"})
    library.become(BETA)
    await library.refused("POST", "/flavors/validate-prompt", {"prompt": own["id"]})
    await library.refused("POST", "/flavors/validate-prompt", {"prompt": "x", "use": "other"}, status=422)
