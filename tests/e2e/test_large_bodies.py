"""What a long body costs on its way: so many looks at its bytes, and no more (docs/performance.md)."""

import gc
import hashlib
import json
import time
import timeit
from collections.abc import Callable

import msgspec
import pytest

from llmgateway.catalog.model import Model
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.gateway.answers.makers import MakersLayer
from llmgateway.gateway.layers.cache_keys import CacheKeys
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.makers import Makers
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.wire.codec import TopFields
from llmgateway.wire.requests import read_chat
from llmgateway.wire.rewrite import rewrite
from tests.deployments import deployment

MODEL = Model("chat", (deployment(),))
SIZE_CHARS = 200_000


def body_of(*, temperature: float = 0, answer: str = "") -> bytes:
    said = [{"role": "system", "content": "Lorem ipsum dolor sit amet. " * (SIZE_CHARS // 28)}]
    if answer:
        said.append({"role": "assistant", "content": answer})
    return json.dumps({"model": "chat", "messages": said, "temperature": temperature}).encode()


class Rewriting:
    """What a relay does with a body, without a socket."""

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        return Complete(rewrite(call.body, "gpt-4o", {}, known=call.fields))


def passing(body: bytes) -> Callable[[], str | None]:
    """Give what is done with a body between two sockets; it returns the cache's key."""
    makers = Makers(MemoryValues(max_bytes=10**6), HealthBook())
    layers = MakersLayer(makers, CacheKeys(Rewriting(), mode="deterministic", scope="organization"))

    def work() -> str | None:
        asked = read_chat(body)
        call = Call("chat", asked.model, body, has_answers=asked.has_answers(), fields=TopFields())
        exchange = Exchange(model=MODEL)
        try:
            layers.send(exchange, call).__await__().send(None)
        except StopIteration:
            return exchange.cache_key
        raise AssertionError("nothing here is to be waited for")

    return work


def times(work: Callable[[], object], bare: Callable[[], object]) -> float:
    """How often the one costs as much as the other, in CPU time; they take turns, and the best of each counts."""
    works, bares = timeit.Timer(work, timer=time.thread_time), timeit.Timer(bare, timer=time.thread_time)
    gc.disable()
    try:
        rounds = [(works.timeit(number=5), bares.timeit(number=5)) for _ in range(60)]
    finally:
        gc.enable()
    return min(one for one, _ in rounds) / min(other for _, other in rounds)


@pytest.mark.alone
def test_a_long_body_is_parsed_twice_and_hashed_once() -> None:
    body, fields = body_of(), msgspec.json.Decoder(dict[str, msgspec.Raw])
    work = passing(body)
    assert work() is not None

    def bare() -> None:
        fields.decode(body)
        fields.decode(body)
        hashlib.sha256(body).digest()

    assert times(work, bare) < 1.5


@pytest.mark.alone
def test_a_long_body_without_a_key_is_parsed_twice() -> None:
    body, fields = body_of(temperature=0.7), msgspec.json.Decoder(dict[str, msgspec.Raw])
    work = passing(body)
    assert work() is None

    def bare() -> None:
        fields.decode(body)
        fields.decode(body)

    assert times(work, bare) < 1.7


@pytest.mark.alone
def test_a_long_conversation_is_searched_as_well_for_no_more_than_it_is_parsed() -> None:
    body, fields = body_of(temperature=0.7, answer="Yes."), msgspec.json.Decoder(dict[str, msgspec.Raw])
    assert read_chat(body).has_answers()

    def bare() -> None:
        fields.decode(body)
        fields.decode(body)

    assert times(passing(body), bare) < 2.8


@pytest.mark.alone
def test_pitfall_070_a_text_of_megabytes_in_any_language_is_read_without_being_made_a_string() -> None:
    said = [{"role": "user", "content": "Der Ausschuß tagte während der Woche noch öfter. " * 12_000}]
    body = json.dumps({"model": "chat", "messages": said}, ensure_ascii=False).encode()
    fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

    # As a string it takes seven times as long as parsing, and all of that at once.
    assert times(lambda: read_chat(body), lambda: fields.decode(body)) < 4.5
