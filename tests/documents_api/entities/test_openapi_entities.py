import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it carries no types

from llmgateway.documents_api.entities.openapi_entities import described
from tests.documents_api.library import DOCUMENT, Library

HERE = described()


def everything(value: Any) -> Iterator[Any]:
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything(child)


async def test_all_that_is_served_is_described_and_nothing_else(library: Library) -> None:
    served = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in library.entity_pages()
        for method in route.methods or ()
        if method != "HEAD"
    }

    assert served == {(path, method) for path, methods in HERE["paths"].items() for method in methods}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    text = json.dumps(HERE)
    for target in set(re.findall(r'"#/components/(\w+/[\w-]+)"', text)):
        kind, _, name = target.partition("/")
        assert name in DOCUMENT["components"][kind], target
    for name in HERE["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_every_schema_is_one_and_every_example_fits() -> None:
    for schema in HERE["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    examples = [
        one for one in everything(HERE["paths"]) if isinstance(one, dict) and {"schema", "examples"} <= one.keys()
    ]
    for one in examples:
        schema = {**one["schema"], "components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator(schema).validate(one["examples"]["plain"]["value"])
    assert len(examples) == sum(method in {"post", "patch"} for its in HERE["paths"].values() for method in its)


def test_names_are_this_documents_own() -> None:
    names = [its["operationId"] for methods in DOCUMENT["paths"].values() for its in methods.values()]

    assert len(set(names)) == len(names)


def test_a_change_has_no_defaults() -> None:
    change, new = (HERE["components"]["schemas"][name]["properties"] for name in ("FlavorChange", "NewFlavor"))

    assert "default" not in change["temperature"]
    assert new["temperature"]["default"] == 0.2
    assert new["top_p"]["exclusiveMinimum"] == 0
