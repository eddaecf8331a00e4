import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it carries no types
import pytest

from llmgateway.api.openapi import openapi_document
from llmgateway.documents_api import openapi_jobs
from llmgateway.documents_api.openapi_live import described

LIVE = described()
COMPONENTS = openapi_document("1", [openapi_jobs.described, described])["components"]
EVENT = COMPONENTS["schemas"]["JobEvent"]


def fits(event: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator({**EVENT, "components": COMPONENTS})
    return bool(validator.is_valid(event))


def test_every_reference_leads_somewhere() -> None:
    for kind, name in re.findall(r'"#/components/(\w+)/([\w-]+)"', json.dumps(LIVE)):
        assert name in COMPONENTS[kind]


def test_events_and_sockets_tell_the_same() -> None:
    (events,) = LIVE["paths"].values()
    stream = events["get"]["responses"]["200"]["content"]["text/event-stream"]

    assert {told["x-message-schema"]["$ref"] for told in LIVE["x-websockets"].values()} == {
        stream["x-event-schema"]["$ref"]
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 0},
        {"event_type": "finished"},
        {"status": "running"},
        {"output": {"text": "of no place"}},
        {"error": {"message": "without a code"}},
        {"cumulative_metrics": None},
    ],
)
def test_what_is_no_event_does_not_fit(wrong: dict[str, Any]) -> None:
    example = EVENT["examples"][0]

    assert fits(example)
    assert not fits({**example, **wrong})
