"""The address itself says what is served there."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from llmgateway.api.root import routes
from tests.api.ledger.books import ready
from tests.conftest import Serve


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=routes("1.2.3"))) as made:
        yield made


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
def test_every_address_people_type_says_what_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)

    assert answer.status_code == 200
    assert answer.json()["name"] == "llmgateway"
    assert answer.json()["version"] == "1.2.3"
    assert (answer.json()["docs"], answer.json()["openapi"]) == ("/docs", "/openapi.json")
    assert client.head(path).status_code == 200


async def test_all_that_is_named_is_served(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)
    named = (await served.client.get("/")).json()

    for path in (named["docs"], named["openapi"]):
        assert (await served.client.get(path)).status_code == 200
    question = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hi"}]}
    answered = await served.client.post("/v1/chat/completions", json=question)
    request_id = answered.headers["x-gateway-request-id"]
    for endpoint in named["endpoints"]:
        method, path = endpoint.replace("{id}", "demo/echo").replace("{request_id}", request_id).split(" ")
        answer = await served.client.request(method, path)
        # An empty body is wrong for a model call, but it has come to one.
        assert answer.status_code == (400 if method == "POST" else 200), endpoint


async def test_all_that_is_described_under_v1_is_named(gateway: Serve) -> None:
    served = await gateway()
    named = {endpoint.partition(" ")[2] for endpoint in (await served.client.get("/")).json()["endpoints"]}

    described = (await served.client.get("/openapi.json")).json()["paths"]

    assert {path for path in described if path.startswith("/v1/") and "health" not in path} - {"/v1/"} == {
        path.replace("{id}", "{model_id}") if path.replace("{id}", "{model_id}") in described else path
        for path in named
        if path.startswith("/v1/")
    }
