import base64
import hashlib
import hmac
import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from llmgateway.catalog.snapshot import Webhooks as Address
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.telemetry.webhooks import Post, UnsentError, Webhooks, signed
from tests.telemetry.exchanges import until
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
DATA = {"owner": "key_1", "threshold": "80 %"}


@dataclass
class Listener:
    """Answers with these statuses, then 200; a text is why no answer came. Held, it keeps the sender waiting."""

    statuses: list[int | str] = field(default_factory=list)
    heard: list[tuple[str, bytes, Mapping[str, str]]] = field(default_factory=list)
    held: threading.Event | None = None

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.heard.append((url, body, headers))
        if self.held is not None:
            self.held.wait(10)
        answer = self.statuses.pop(0) if self.statuses else 200
        if isinstance(answer, str):
            raise UnsentError(answer)
        return answer


@dataclass
class Sending:
    webhooks: Webhooks
    sink: LineSink
    log: io.BytesIO

    def logs(self) -> list[dict[str, object]]:
        self.sink.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@asynccontextmanager
async def sending(
    address: Callable[[], Address], connect: Callable[[], Post] | None = None, tries: int = 3
) -> AsyncIterator[Sending]:
    log = io.BytesIO()
    sink = LineSink(log)
    logger = build_logger(sink, level="debug", log_format="json")
    webhooks = Webhooks(address, logger, waits_s=(0.01,) * (tries - 1), connect=connect)
    yield Sending(webhooks, sink, log)
    await webhooks.close()
    sink.close()


def to(url: str | None, secret: str | None = SECRET) -> Callable[[], Address]:
    return lambda: Address(secret, url)


def test_a_signature_is_that_of_the_specification() -> None:
    # The example of the specification's own libraries.
    secret, event = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    at = datetime.fromtimestamp(1_614_265_330, UTC)

    headers = signed(event, b'{"test": 2432232314}', secret, at)

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (event, "1614265330")


@pytest.mark.parametrize("secret", ["a plain secret", "whsec_is not base64!"])
def test_a_secret_in_another_form_is_taken_as_it_is(secret: str) -> None:
    headers = signed("msg_1", b"{}", secret)

    text = f"msg_1.{headers['webhook-timestamp']}.{{}}".encode()
    expected = base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_without_a_secret_nothing_is_signed() -> None:
    assert "webhook-signature" not in signed("msg_1", b"{}", None)


async def test_an_event_arrives_over_http() -> None:
    async with Player(OpenAIWire()) as player, sending(to(f"{player.url}/alerts?token=planted")) as s:
        player.always(Step(pieces=(Piece(b"{}"),)))
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.sent == 1)

        request = player.last
        body = json.loads(request.body)
        assert (request.method, body["type"], body["data"]) == ("POST", "budget.alert", DATA)
        assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
        headers = request.headers
        sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        expected = signed(headers["webhook-id"], request.body, SECRET, sent_at)
        assert headers["webhook-signature"] == expected["webhook-signature"]


async def test_a_failure_is_tried_again_with_the_same_id() -> None:
    listener = Listener([500, "NewConnectionError", 200])
    async with sending(to("http://hooks"), lambda: listener) as s:
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.sent == 1)

    assert len(listener.heard) == 3
    assert len({headers["webhook-id"] for _, _, headers in listener.heard}) == 1
    assert len({body for _, body, _ in listener.heard}) == 1


async def test_what_is_never_taken_is_given_up_and_told_without_the_address() -> None:
    listener = Listener([500] * 3)
    async with sending(to("http://user:planted-pass@hooks/planted-token"), lambda: listener) as s:
        s.webhooks.send("budget.alert", DATA)
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.sent == 1)

        assert s.webhooks.lost == 1
        (line,) = s.logs()
        assert (line["event"], line["reason"], line["event_type"]) == (
            "webhook_failed",
            "HTTP status 500",
            "budget.alert",
        )
        assert b"planted" not in s.log.getvalue()
        assert b"whsec" not in s.log.getvalue()


async def test_a_server_that_wants_nothing_more_is_not_asked_again() -> None:
    listener = Listener([410])
    async with sending(to("http://hooks"), lambda: listener) as s:
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.lost == 1)

    assert len(listener.heard) == 1


async def test_a_redirect_is_a_failure_and_is_never_followed() -> None:
    async with Player(OpenAIWire()) as player, Player(OpenAIWire()) as elsewhere, sending(to(player.url)) as s:
        player.always(Step(status=302, headers={"location": elsewhere.url}))
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.lost == 1)

        assert elsewhere.requests_total == 0
        assert player.requests_total == 3


async def test_a_server_that_does_not_answer_holds_nobody_up() -> None:
    listener = Listener(held=threading.Event())
    async with sending(to("http://hooks"), lambda: listener) as s:
        for _ in range(3_000):
            s.webhooks.send("budget.alert", DATA)

        assert s.webhooks.lost >= 1_999
        assert [(line["event"], line["reason"]) for line in s.logs()] == [("webhooks_lost", "too many wait")]
        assert listener.held is not None
        listener.held.set()
        await until(lambda: s.webhooks.sent >= 1_000)


async def test_without_an_address_nothing_is_sent_and_no_thread_begins() -> None:
    addresses = [Address(SECRET, None)]
    listener = Listener()
    async with sending(lambda: addresses[0], lambda: listener) as s:
        s.webhooks.send("budget.alert", DATA)
        assert "webhooks" not in {thread.name for thread in threading.enumerate()}

        addresses[0] = Address(SECRET, "http://hooks")
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.sent == 1)

    assert [url for url, _, _ in listener.heard] == ["http://hooks"]


async def test_a_port_where_nobody_listens_is_a_failure_like_any_other() -> None:
    async with Player(OpenAIWire()) as player:
        url = player.url
    async with sending(to(url), tries=1) as s:
        s.webhooks.send("budget.alert", DATA)
        await until(lambda: s.webhooks.lost == 1)

        (line,) = s.logs()
        assert line["reason"] == "NewConnectionError"


async def test_at_the_end_what_waits_is_tried_once() -> None:
    listener = Listener([500] * 10)
    async with sending(to("http://hooks"), lambda: listener, tries=1) as s:
        for _ in range(3):
            s.webhooks.send("budget.alert", DATA)

    assert s.webhooks.lost == 3


async def test_the_end_does_not_wait_for_the_next_try() -> None:
    listener = Listener([500] * 10)
    logger = build_logger(LineSink(io.BytesIO()), level="error", log_format="json")
    webhooks = Webhooks(to("http://hooks"), logger, waits_s=(60.0,), connect=lambda: listener)
    webhooks.send("budget.alert", DATA)
    await until(lambda: len(listener.heard) == 1)

    await webhooks.close()

    assert (webhooks.lost, len(listener.heard)) == (1, 1)
