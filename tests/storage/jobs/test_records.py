import msgspec
import pytest
from msgspec import structs

from llmgateway.caller import Caller
from llmgateway.storage.admin.records import field_of
from llmgateway.storage.jobs.records import (
    JOB_COLUMNS,
    PASS_COLUMNS,
    digest_of,
    job_from,
    kept_text,
    pass_from,
    to_json,
    values_of_job,
    values_of_pass,
)
from llmgateway.storage.jobs.rows import JobRow, Origin, PassRow
from tests.storage.jobs.given import NOW, done, order


def test_every_field_has_its_column() -> None:
    assert {*map(field_of, JOB_COLUMNS), "result", "partial"} == set(JobRow.__struct_fields__)
    assert list(map(field_of, PASS_COLUMNS)) == list(PassRow.__struct_fields__)


def test_a_job_is_read_back_as_it_was_ordered() -> None:
    new = order(organization_id="acme", metadata={"a": [1, None]}, ttl_s=5, webhook_url="https://x", text="a" * 600)
    values = values_of_job(new)

    job = job_from([values.get(column.name) for column in JOB_COLUMNS], "result", "part")

    assert (job.id, job.organization_id, job.status, job.priority) == (new.id, "acme", "queued", 5)
    assert (job.origin, job.metadata, job.ttl_s, job.webhook_url) == (new.origin, {"a": [1, None]}, 5, "https://x")
    assert (job.preview, job.input_chars, job.created_at) == ("a" * 500, 600, new.created_at)
    assert (job.result, job.partial, job.completed_at) == ("result", "part", None)


def test_a_pass_is_read_back_as_it_was() -> None:
    row = done("batch:0-9", cost_nusd=2**60, model="m", refusal="no", attempts=3, completed_at=NOW)

    assert pass_from(list(values_of_pass("job_1", row).values())[1:]) == row


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "\ufffd\ufffd"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_a_text_becomes_one_that_every_database_keeps_and_stays_as_long(text: str, kept: str) -> None:
    assert kept_text(text) == kept
    assert len(kept) == len(text)


def test_structures_hold_texts_that_every_database_keeps() -> None:
    assert to_json({"a": "x"}) == '{"a":"x"}'
    assert msgspec.json.decode(to_json({"\0": ["\ud800", {"b": ("\0", 1)}]})) == {
        "\ufffd": ["\ufffd", {"b": ["\ufffd", 1]}]
    }
    assert msgspec.json.decode(to_json({"a": "\\u0000"})) == {"a": "\\u0000"}


def test_the_key_that_somebody_sent_for_a_provider_is_not_kept() -> None:
    caller = Caller(kind="provider", provider="openai", provider_key="canary")

    values = values_of_job(order(caller=caller))

    assert "canary" not in str(values)
    assert '"provider":"openai"' in values["origin"]


def test_orders_are_told_apart_by_whose_they_are_and_by_their_key() -> None:
    one = Origin(caller=Caller(), scope="a", idempotency_key="x" * 10_000)

    assert digest_of(one, None) is None
    assert len(digest_of(one, one.idempotency_key) or "") == 64
    assert digest_of(one, "x") == digest_of(one, "x")
    assert len({digest_of(one, "x"), digest_of(one, "y"), digest_of(structs.replace(one, scope="b"), "x")}) == 3


def test_an_organization_whose_name_no_index_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="organization_id: 257 characters, 256 at most"):
        values_of_job(order(organization_id="x" * 257))
