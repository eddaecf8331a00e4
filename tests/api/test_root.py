"""The address itself says what is served there."""

import json
from collections.abc import Iterator
from functools import reduce

import pytest
import websockets
from starlette.applications import Starlette
from starlette.testclient import TestClient

from llmgateway.api.root import routes
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.running import Running


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=routes("1.2.3"))) as made:
        yield made


@pytest.mark.parametrize("path", ["/v1", "/v1/"])
def test_every_address_people_type_says_what_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)

    assert answer.status_code == 200
    assert answer.json()["name"] == "llmgateway"
    assert answer.json()["version"] == "1.2.3"
    assert (answer.json()["docs"], answer.json()["openapi"]) == ("/docs", "/openapi.json")
    assert client.head(path).status_code == 200


async def test_the_address_itself_tells_programs_the_same(gateway: Serve) -> None:
    served = await gateway()

    assert (await served.client.get("/")).json() == (await served.client.get("/v1")).json()
    assert (await served.client.head("/")).status_code == 200


async def test_all_that_is_named_is_served(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)
    named = (await served.client.get("/")).json()

    for path in (named["docs"], named["openapi"]):
        assert (await served.client.get(path)).status_code == 200
    things = await made(served)
    for endpoint in named["endpoints"]:
        method, path = reduce(lambda text, thing: text.replace(*thing), things.items(), endpoint).split(" ")
        assert "{" not in path
        if method == "WS":
            async with websockets.connect(f"{served.url.replace('http', 'ws', 1)}{path}") as socket:
                assert json.loads(await socket.recv())["status"] == "queued"
            continue
        answer = await served.client.request(method, path)
        # An empty body is wrong, but it has come to what reads bodies.
        assert answer.status_code in ({400, 422} if method == "POST" else {200}), endpoint


async def made(served: Running) -> dict[str, str]:
    """Make one of everything that is asked for by its id; gives what stands in paths for it."""
    question = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hi"}]}
    answered = await served.client.post("/v1/chat/completions", json=question)
    ordered = await served.client.post("/api/v1/services/summarize/execute", json={"input": "We ship on Friday."})
    return {
        "models/{id}": "models/demo/echo",
        "{request_id}": answered.headers["x-gateway-request-id"],
        "services/{id}": "services/summarize",
        "jobs/{id}": f"jobs/{ordered.json()['job_id']}",
    }


async def test_all_that_is_described_under_v1_is_named(gateway: Serve) -> None:
    served = await gateway()
    named = {endpoint.partition(" ")[2] for endpoint in (await served.client.get("/")).json()["endpoints"]}

    described = (await served.client.get("/openapi.json")).json()["paths"]

    assert {path for path in described if path.startswith("/v1/") and "health" not in path} - {"/v1/"} == {
        path.replace("{id}", "{model_id}") if path.replace("{id}", "{model_id}") in described else path
        for path in named
        if path.startswith("/v1/")
    }
