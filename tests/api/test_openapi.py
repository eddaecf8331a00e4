import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped]  # it carries no types
import pytest
import websockets
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.testclient import TestClient

from llmgateway import app
from llmgateway.api.openapi import openapi_document, routes
from llmgateway.api.routes import OPERATIONS as CALLS
from llmgateway.pages import DESCRIBED
from tests.api.ledger.books import ready
from tests.conftest import Serve

DOCUMENT = openapi_document("1.2.3", DESCRIBED)
SCHEMAS = DOCUMENT["components"]["schemas"]
METHODS = {"get", "post", "put", "patch", "delete"}
SERVED = {
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/{id}", "/health"),
    *("/health/live", "/v1/health/live", "/livez", "/health/ready", "/v1/health/ready", "/readyz"),
    *("/health/detailed", "/v1/health/detailed", "/v1/health/metrics", "/metrics"),
    *("/metrics/performance", "/metrics/trends", "/metrics/costs", "/v1/usage", "/v1/requests/{request_id}"),
    *("/", "/v1", "/v1/", "/openapi.json", "/docs", "/v1/route"),
}
# Asked with what they are about: tests/api/admin.
ADMIN = {
    *("/admin/keys", "/admin/keys/{key_id}", "/admin/keys/{key_id}/rotate"),
    *("/admin/organizations", "/admin/organizations/{organization_id}"),
    *("/admin/providers", "/admin/providers/{name}", "/admin/deployments", "/admin/deployments/{deployment_id}"),
    *("/admin/cache", "/admin/cache/clear", "/admin/limits", "/admin/limits/reset", "/admin/audit"),
    *("/admin/catalog", "/admin/catalog/check"),
}
# Asked with what they are about: tests/documents_api, and tests/documents_api/test_sockets.py for the others.
DOCUMENTS = {path for path in DOCUMENT["paths"] if path.startswith("/api/v1/")}
SOCKETS = {"/ws/jobs", "/ws/jobs/{job_id}"}
# Not on every answer of its operation: only where the usage and the price are known.
SOMETIMES = {"x-cost-usd", *(name.lower() for name in DOCUMENT["components"]["headers"] if "ratelimit" in name.lower())}
SOMETIMES |= {"x-cache-type", "x-cache-similarity", "x-sensitivity", "idempotent-replayed"}
OPERATIONS = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
]
NAMES = [f"{method} {path}" for method, path, _ in OPERATIONS]


def everything(value: Any, path: str = "#") -> Iterator[tuple[str, Any]]:
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from everything(child, f"{path}/{key}")


def resolve(reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def check(schema: dict[str, Any], value: Any) -> None:
    # References within a schema point into the document, so the schema stands in it.
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


async def test_it_describes_all_that_is_served_and_nothing_else(
    gateway: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[BaseRoute] = []
    for name in ("pages", "together"):
        monkeypatch.setattr(app, name, noting(getattr(app, name), pages))
    await gateway()

    served = {
        (shape_of(page.path), method.lower())
        for page in pages
        if isinstance(page, Route)
        for method in (page.methods or set()) - {"HEAD"}
    }
    served |= {(path, "post") for path in (*CALLS, "/v1/route")}
    assert len(pages) > 50
    assert served == {(shape_of(path), method) for method, path, _ in OPERATIONS}


def shape_of(path: str) -> str:
    """Leave out what the parts that stand for something are called."""
    return re.sub(r"{[^}]+}", "{}", path)


def noting(make: Callable[..., list[BaseRoute]], noted: list[BaseRoute]) -> Callable[..., list[BaseRoute]]:
    """Make the same routes, and note them."""

    def made(*args: Any) -> list[BaseRoute]:
        found = make(*args)
        noted.extend(found)
        return found

    return made


def test_paths_are_those_that_other_tests_ask() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert DOCUMENT["paths"].keys() == SERVED | ADMIN | DOCUMENTS
    assert len(DOCUMENTS) > 40


async def test_sockets_are_described_and_their_schemas_are_those_of_the_events(gateway: Serve) -> None:
    served = await gateway()

    assert DOCUMENT["x-websockets"].keys() == SOCKETS
    for path, told in DOCUMENT["x-websockets"].items():
        assert resolve(told["x-message-schema"]["$ref"]) == SCHEMAS["JobEvent"]
        assert told["summary"]
        assert told["description"]
        address = f"{served.url.replace('http', 'ws', 1)}{path.format(job_id='none')}"
        async with websockets.connect(address) as socket:
            if "{job_id}" in path:
                assert json.loads(await socket.recv())["error"]["code"] == "NOT_FOUND"


async def test_events_of_a_job_fit_what_is_described(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)

    ordered = await served.client.post("/api/v1/services/summarize/execute", json={"input": "We ship on Friday."})
    answer = await served.client.get(f"/api/v1/jobs/{ordered.json()['job_id']}/events")

    stream = DOCUMENT["paths"]["/api/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert answer.headers["content-type"].partition(";")[0] in stream
    told = [block.split("\n") for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    events = [json.loads(line.removeprefix("data: ")) for *_, line in told]
    for number, event in enumerate(events, 1):
        check(SCHEMAS["JobEvent"], event)
        assert told[number - 1][:2] == [f"id: {number}", f"event: {event['event_type']}"]
    assert events[-1]["status"] == "completed"


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_every_operation_is_whole(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["responses"]
    assert operation["summary"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    named = set(re.findall(r"\{(\w+)\}", path))
    parameters = [resolve(given["$ref"]) if "$ref" in given else given for given in operation.get("parameters", [])]
    assert {given["name"] for given in parameters if given["in"] == "path"} == named
    for status, written in operation["responses"].items():
        assert re.fullmatch(r"[2-5]\d\d", status)
        response = resolve(written["$ref"]) if "$ref" in written else written
        assert response["description"]
        assert ("content" in response) is (status != "204")
        assert {"X-Request-ID", "X-Gateway-Request-ID"} <= response["headers"].keys()
    if method == "post":
        (content,) = operation["requestBody"]["content"].values()
        assert content["examples"]


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    references = [value["$ref"] for _, value in everything(DOCUMENT) if isinstance(value, dict) and "$ref" in value]

    assert references
    assert all(resolve(reference) for reference in references)


def test_every_component_is_used() -> None:
    text = json.dumps(DOCUMENT)

    for kind, components in DOCUMENT["components"].items():
        for name in components:
            if kind == "securitySchemes":
                assert f'{{"{name}": []}}' in text
                continue
            assert f'"#/components/{kind}/{name}"' in text, f"{kind}/{name}"


def test_a_key_is_asked_for_wherever_there_is_something_to_guard() -> None:
    guarded = {
        path for path, methods in DOCUMENT["paths"].items() if any("security" in one for one in methods.values())
    }
    anybodys = {*("/", "/v1", "/v1/", "/openapi.json", "/docs", "/health", "/health/live", "/v1/health/live", "/livez")}
    anybodys |= {"/health/ready", "/v1/health/ready", "/readyz"}

    assert guarded == DOCUMENT["paths"].keys() - anybodys
    for path in guarded:
        for operation in DOCUMENT["paths"][path].values():
            assert {"401", "403"} <= operation["responses"].keys()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_json_schema_and_its_examples_fit(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    for example in SCHEMAS[name].get("examples", []):
        check(SCHEMAS[name], example)


def test_examples_of_requests_and_answers_fit_their_schemas() -> None:
    checked = 0
    for _, value in everything(DOCUMENT):
        if isinstance(value, dict) and "schema" in value and isinstance(value.get("examples"), dict):
            for example in value["examples"].values():
                check(value["schema"], example["value"])
                checked += 1

    assert checked > 15


def test_the_example_of_a_jobs_events_fits_them() -> None:
    content = DOCUMENT["paths"]["/api/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    stream = content["text/event-stream"]

    identity, name, line = stream["example"].removesuffix("\n\n").split("\n")

    event = json.loads(line.removeprefix("data: "))
    check(stream["x-event-schema"], event)
    assert (identity, name) == (f"id: {event['id']}", f"event: {event['event_type']}")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_the_example_of_a_stream_fits_its_events_and_ends_as_streams_do(path: str) -> None:
    stream = DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    events = stream["example"].removesuffix("\n\n").split("\n\n")

    assert events[-1] == "data: [DONE]"
    for event in events[:-1]:
        check(stream["x-event-schema"], json.loads(event.removeprefix("data: ")))


def test_a_request_may_have_fields_that_nobody_described() -> None:
    for name in ("ChatCompletionRequest", "CompletionRequest", "EmbeddingRequest"):
        example = {**SCHEMAS[name]["examples"][0], "a_field_of_next_year": {"x": 1}}
        check(SCHEMAS[name], example)


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"model": "m", "messages": []},
        {"model": "m", "messages": "Hi"},
        {"model": "m", "messages": [{"role": "usr", "content": "Hi"}]},
        {"model": "m", "messages": [{"role": "user", "content": 5}]},
    ],
)
def test_a_wrong_chat_request_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(SCHEMAS["ChatCompletionRequest"], wrong)


async def test_what_the_gateway_answers_fits_what_is_described(gateway: Serve) -> None:
    running = await gateway()
    await ready(running)
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "ChatCompletion"),
        ("/v1/completions", {"prompt": "Hi"}, "Completion"),
        ("/v1/route", {"messages": [{"role": "user", "content": "Hi"}]}, "RoutePlan"),
        ("/v1/embeddings", {"input": "Hi"}, "EmbeddingList"),
    ]
    request_id = ""
    for path, fields, name in asked:
        answer = await running.client.post(path, json={"model": "demo/echo", **fields})
        described(path, "post", answer, name)
        request_id = answer.headers["x-gateway-request-id"]
    for path in sorted(SERVED - {path for path, _, _ in asked}):
        named = path.replace("{id}", "demo/echo").replace("{request_id}", request_id)
        answer = await running.client.get(named, headers={"Accept": "application/json"})
        if path not in {"/openapi.json", "/docs"}:
            described(path, "get", answer, None)
    wrong = await running.client.post("/v1/chat/completions", json={"model": "no/such", "messages": []})
    assert wrong.status_code == 400
    check(SCHEMAS["Error"], wrong.json())


def described(path: str, method: str, answer: httpx2.Response, name: str | None) -> None:
    assert answer.status_code == 200, path
    response = DOCUMENT["paths"][path][method]["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]
    assert name is None or schema == {"$ref": f"#/components/schemas/{name}"}
    check(schema, answer.json())
    assert {header.lower() for header in response["headers"]} - SOMETIMES <= answer.headers.keys(), path


def test_the_document_and_the_page_are_served() -> None:
    with TestClient(Starlette(routes=routes("1.2.3", DESCRIBED))) as client:
        document, page = client.get("/openapi.json"), client.get("/docs")
        heads = [client.head(path).status_code for path in ("/openapi.json", "/docs")]

    assert document.json() == DOCUMENT
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert heads == [200, 200]


def test_it_names_no_outside_host() -> None:
    with TestClient(Starlette(routes=routes("1.2.3", DESCRIBED))) as client:
        for path in ("/openapi.json", "/docs"):
            assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", client.get(path).text) == []
            assert "http" not in re.findall(r"(?:src|href)=\"?(\w+)", client.get(path).text)
