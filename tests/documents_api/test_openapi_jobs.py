import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it carries no types
import pytest

from llmgateway.documents_api.openapi_jobs import described
from tests.documents_api.front import COMPONENTS, Front

JOBS = described()
OPERATIONS = [
    (method, path, operation) for path, methods in JOBS["paths"].items() for method, operation in methods.items()
]


def resolved(value: dict[str, Any]) -> Any:
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    return COMPONENTS[kind][name]


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    text = json.dumps(JOBS)

    for kind, name in re.findall(r'"#/components/(\w+)/([\w-]+)"', text):
        assert name in COMPONENTS[kind]
    for kind, components in JOBS["components"].items():
        for name in components:
            assert f'"#/components/{kind}/{name}"' in text


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_every_operation_is_whole(method: str, path: str, operation: dict[str, Any]) -> None:
    named = set(re.findall(r"\{(\w+)\}", path))
    parameters = [resolved(given) for given in operation.get("parameters", [])]

    assert {given["name"] for given in parameters if given["in"] == "path"} == named
    assert {"401", "403", "405", "503"} <= operation["responses"].keys()
    assert operation["summary"]
    for written in operation["responses"].values():
        assert {"X-Request-ID", "X-Gateway-Request-ID"} <= resolved(written)["headers"].keys()
    if method in {"post", "patch"}:
        (content,) = operation["requestBody"]["content"].values()
        for example in content["examples"].values():
            jsonschema.Draft202012Validator({**content["schema"], "components": COMPONENTS}).validate(example["value"])


def test_errors_are_as_their_examples_say() -> None:
    for response in JOBS["components"]["responses"].values():
        content = response["content"]["application/json"]
        for example in content["examples"].values():
            jsonschema.Draft202012Validator({**content["schema"], "components": COMPONENTS}).validate(example["value"])


async def test_everything_described_is_served(front: Front) -> None:
    for method, path, _ in OPERATIONS:
        asked = re.sub(r"\{\w+\}", "1", path).removeprefix("/api/v1")

        answer = await front.send(method.upper(), asked)

        assert answer.status_code != 405, path
        assert answer.status_code != 404 or "Unknown path" not in answer.text, path
