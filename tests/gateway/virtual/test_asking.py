import base64
from typing import Any

import pytest

from llmgateway.caller import Caller, RouteAsk
from llmgateway.errors import DocumentError, InvalidRequestError, NotFoundError, PermissionDeniedError
from llmgateway.exchange import Call, Trace
from llmgateway.gateway.virtual.asking import read_order
from llmgateway.jobs.order import Order
from tests.gateway.virtual.staged import call, exchange, said


def order(body: dict[str, Any], **fields: Any) -> Order:
    return read_order(exchange(**fields), call(body)).order


def file_part(content: bytes, name: str = "notes.md") -> dict[str, Any]:
    uri = "data:text/plain;base64," + base64.b64encode(content).decode()
    return {"type": "file", "file": {"file_data": uri, "filename": name}}


def test_the_document_is_all_texts_of_the_user_and_the_system_instructs() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": "not mine"},
        {"role": "user", "content": [{"type": "text", "text": "Second."}, file_part("Drütt.\r\n".encode())]},
        {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
    ]

    found = order({"messages": messages})

    assert found.text == "First.\n\nSecond.\n\nDrütt.\n"
    assert found.extras.instructions == "Be brief.\n\nIn French."
    assert (found.service, found.flavor) == ("meeting-minutes", None)


def test_a_flavor_is_named_by_the_model_the_field_or_the_metadata() -> None:
    named = call(said("x"), model="service/summarize:single-pass")

    assert read_order(exchange(), named).order.flavor == "single-pass"
    assert order({**said("x"), "service": {"flavor": "iterative"}}).flavor == "iterative"
    assert order({**said("x"), "metadata": {"flavor": "f", "priority": "7", "team": "red"}}).flavor == "f"


def test_what_the_metadata_holds_beside_stays_with_the_job() -> None:
    found = order({**said("x"), "metadata": {"flavor": "f", "priority": "7", "team": "red"}})

    assert found.priority == 7
    assert found.metadata == {"team": "red"}


def test_the_same_order_has_the_same_digest_whether_it_streams_or_not() -> None:
    one = read_order(exchange(), call({**said("x"), "stream": True}, stream=True)).order
    other = read_order(exchange(), call(said("x"))).order
    third = read_order(exchange(), call(said("y"))).order

    assert one.joins == other.joins != third.joins


def test_an_idempotency_key_counts_for_its_path() -> None:
    assert order(said("x"), idempotency_key="k").idempotency_key == "/v1/chat/completions k"
    assert order(said("x")).idempotency_key is None


def test_a_job_is_linked_to_the_trace_of_its_request() -> None:
    assert order(said("x"), trace=Trace(0xAB, 0xCD, sampled=True)).trace == f"00-{0xAB:032x}-{0xCD:016x}-01"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}, "file_data"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "%%"}}]}]}, "data URI"),
        ({**said("x"), "metadata": {"priority": "12"}}, "0 (urgent) to 9"),
        ({**said("x"), "metadata": {"a": 1}}, "texts"),
        ({**said("x"), "service": {"flavour": "x"}}, "flavour"),
    ],
    ids=["image", "file_id", "no base64", "priority", "metadata", "unknown field"],
)
def test_what_is_wrong_is_said_with_what_would_be_right(body: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        order(body)

    assert told in caught.value.message


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(DocumentError):
        order({"messages": [{"role": "user", "content": [file_part(b"\x89PNG\r\n\x1a\n\x00\x00", "a.png")]}]})


def test_only_chats_are_documents() -> None:
    with pytest.raises(InvalidRequestError, match="chat/completions"):
        read_order(exchange(), Call("completion", "service/summarize", b'{"prompt":"x"}'))


def test_an_organization_in_the_metadata_is_believed_as_the_headers_is() -> None:
    named = {**said("x"), "metadata": {"organization_id": "acme"}}

    assert order(named).organization == "acme"
    assert order(named, organization="acme", caller=Caller(kind="client", organization="acme")).organization == "acme"
    with pytest.raises(NotFoundError):
        order(named, organization="other", caller=Caller(kind="client", organization="other"))
    with pytest.raises(NotFoundError):
        order(named, caller=Caller(kind="client"))


def test_an_administrator_who_names_an_organization_acts_for_it_alone() -> None:
    admin = Caller(kind="admin")

    assert order(said("x"), caller=admin).everyone
    assert not order({**said("x"), "metadata": {"organization_id": "acme"}}, caller=admin).everyone


def test_texts_are_read_as_files_are() -> None:
    assert order(said("One.\r\nTwo.\r\n\rThree.")).text == "One.\nTwo.\n\nThree."
    assert order(said("1\n00:00:01,000 --> 00:00:02,000\nHello.\n")).text == "Hello.\n"
    with pytest.raises(DocumentError, match="U\\+0000"):
        order(said("One.\0Two."))


def test_who_has_his_job_cancelled_joins_nobody_who_has_not() -> None:
    one = order({**said("x"), "service": {"cancel_on_disconnect": True}})

    assert one.joins != order(said("x")).joins
    assert one.body_digest != order(said("x")).body_digest


def test_a_providers_own_key_gets_no_service() -> None:
    with pytest.raises(PermissionDeniedError, match="model calls only"):
        order(said("x"), caller=Caller(kind="provider", provider="openai", provider_key="sk-proj-1"))


def test_the_metadata_that_is_kept_is_small() -> None:
    with pytest.raises(InvalidRequestError, match="16384 is the most"):
        order({**said("x"), "metadata": {"a": "b" * 20_000}})


def test_a_most_for_the_call_is_the_jobs() -> None:
    assert order(said("x"), route_ask=RouteAsk(max_cost_usd=0.25)).max_cost_usd == 0.25
    assert order(said("x"), route_ask=RouteAsk(max_cost_usd=0.25)).joins != order(said("x")).joins
