import pytest

from llmgateway.caller import Caller
from llmgateway.errors import ModelNotFoundError, RateLimitedError, UpstreamError
from llmgateway.exchange import Complete, Exchange
from llmgateway.gateway.layers.embedding import Embedder
from tests.api.answering import Answering
from tests.gateway.test_target import Offer

VECTOR = Complete(b'{"data": [{"index": 0, "embedding": [0.5, -0.5]}]}')
ASKED = Exchange(caller=Caller(kind="client", key_id="key_1"), organization="acme", min_security="high")


def embedder(target: Answering, written: list[Exchange]) -> Embedder:
    return Embedder(target, lambda: Offer(["embed"]), written.append)


async def test_a_text_becomes_a_vector_on_the_callers_account() -> None:
    written: list[Exchange] = []
    target = Answering(VECTOR)

    assert await embedder(target, written)(ASKED, "hello", "embed") == [0.5, -0.5]

    (call,) = target.calls
    assert (call.operation, call.model, call.body) == ("embedding", "embed", b'{"model":"embed","input":"hello"}')
    (inner,) = written
    assert (inner.caller, inner.organization, inner.min_security) == (ASKED.caller, "acme", "high")
    assert (inner.operation, inner.model_label, inner.status) == ("embedding", "embed", 200)
    assert inner.id != ASKED.id


async def test_a_refusal_is_written_down_as_well() -> None:
    written: list[Exchange] = []
    target = Answering(RateLimitedError("slow down"))

    with pytest.raises(RateLimitedError):
        await embedder(target, written)(ASKED, "hello", "embed")

    assert [(one.status, one.error_code) for one in written] == [(429, "rate_limit_exceeded")]


async def test_a_model_that_is_not_there_is_said() -> None:
    with pytest.raises(ModelNotFoundError):
        await embedder(Answering(VECTOR), [])(ASKED, "hello", "nope")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": []}', b'{"data": [{"embedding": "AAAA"}]}'])
async def test_an_answer_without_a_vector_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="no vector"):
        await embedder(Answering(Complete(body)), [])(ASKED, "hello", "embed")
