from typing import Any

from llmgateway.api.openapi import openapi_document
from llmgateway.documents_api.catalog.openapi_organizations import described

THERE = openapi_document("1")["paths"]


def bodies_and_answers(methods: dict[str, Any]) -> dict[str, Any]:
    """Give the schemas of each method's body and of its good answer."""
    found = {}
    for method, told in methods.items():
        (status,) = (status for status in told["responses"] if status.startswith("2"))
        answer = told["responses"][status]["content"]["application/json"]["schema"]
        body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        found[method] = (status, answer, body)
    return found


def test_it_is_what_administrators_are_told() -> None:
    for path, methods in described()["paths"].items():
        there = THERE[path.replace("/api/v1/", "/admin/")]

        assert bodies_and_answers(methods) == bodies_and_answers(there)


def test_errors_have_the_form_of_their_neighbours() -> None:
    for methods in described()["paths"].values():
        for told in methods.values():
            refused = [answer["$ref"] for status, answer in told["responses"].items() if not status.startswith("2")]
            assert all("/responses/Jobs" in reference for reference in refused)
