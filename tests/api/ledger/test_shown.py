from datetime import UTC, datetime
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it carries no types

from llmgateway.api.ledger.shown import instant, shown, usd
from llmgateway.api.openapi import openapi_document
from llmgateway.storage.entry import AttemptEntry, LedgerEntry
from tests.api.ledger.books import entry_of_a_call

DOCUMENT = openapi_document("1.2.3")
RECORD = {**DOCUMENT["components"]["schemas"]["RequestRecord"], "components": DOCUMENT["components"]}


def test_all_that_is_kept_of_a_request_is_told() -> None:
    entry = entry_of_a_call(cached_tokens=4, user_label="ada", organization_id="acme", client_id="mine", trace_id="ab")
    told = shown(entry)

    assert told["created_at"] == "2026-11-21T09:30:00.123Z"
    assert (told["client_request_id"], told["organization_id"], told["user"]) == ("mine", "acme", "ada")
    assert told["cost_usd"] == 0.000195
    assert told["usage"]["total_tokens"] == 42
    assert told["usage"]["cached_tokens"] == 4
    assert told["attempts"] == [
        {
            "provider": "main",
            "model": "gpt-4o",
            "started_ms": 0.4,
            "duration_ms": 811.8,
            "outcome": "ok",
            "upstream_status": None,
            "time_to_first_token_ms": 210.2,
        }
    ]
    jsonschema.Draft202012Validator(RECORD).validate(told)


def test_pitfall_037_what_is_not_known_is_null_not_zero() -> None:
    told = shown(entry_of_a_call(cost_nusd=None, prompt_tokens=None, completion_tokens=None))

    assert told["cost_usd"] is None
    assert told["usage"] is None
    assert told["timings"]["time_to_first_token_ms"] is None
    jsonschema.Draft202012Validator(RECORD).validate(told)


def test_every_field_of_the_ledger_reaches_its_reader() -> None:
    values: list[Any] = [
        *("id-7", 1, "chat", "asked-7", 207, 17.5, 27.5, "client-7", "org-7", "key-7", "user-7"),
        *("model-7", "up-7", "resp-7", "prov-7", "depl-7", True, "code-7"),
        *(107, 117, 127, 137, 147, 157, 167, True, 1_007_000_000, 37.5, 47.5),
        *([AttemptEntry("p-7", "m-7", 57.5, 67.5, "out-7", 217, 77.5)], "MISS", "reason-7", "trace-7"),
    ]
    entry = LedgerEntry(*values)
    text = str(shown(entry))

    assert [
        value for value in ("-7'", "207", "107", "117", "127", "137", "147", "157", "167") if value not in text
    ] == []
    assert [
        value for value in ("17.5", "27.5", "37.5", "47.5", "57.5", "67.5", "77.5", "1.007") if value not in text
    ] == []
    for name in ("id", "asked", "client", "org", "key", "user", "model", "up", "resp", "prov", "depl", "code", "trace"):
        assert f"'{name}-7'" in text


def test_moments_are_in_utc_and_money_in_dollars() -> None:
    assert instant(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == "1969-12-31T23:59:59.999Z"
    assert usd(1) == 1e-9
    assert usd(0) == 0.0
    assert usd(None) is None
