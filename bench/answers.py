"""Whether a contestant answers what is asked, before its speed is believed."""

import http.client
import time

from bench import payloads
from bench.contestants import Running
from bench.scenarios import PATH

# What a stream of so many events may have more: a role before them, an end and the usage after them.
MORE_EVENTS = 4
READY_LIMIT_S = 30.0


def check(running: Running) -> None:
    """Make sure a contestant answers what is asked before its speed is believed.

    Raises:
        RuntimeError: Its answer is not the mock's.
    """
    contestant = running.contestant
    wires = [("openai", payloads.SMALL, payloads.BURST)]
    if contestant.translates:
        wires.append(("anthropic", payloads.TRANSLATED, payloads.TRANSLATED_STREAM))
    for provider, model, streamed in wires:
        whole = _ask(running, provider, payloads.question(model))
        if b"ship on Friday" not in whole:
            raise RuntimeError(f"{contestant.name} gave another answer than the mock's: {whole[:300]!r}")
        if contestant.name == "null":
            return
        events = _ask(running, provider, payloads.question(streamed, stream=True)).count(b"data: {")
        # Some begin a translated stream with events of their own, and some end one so.
        if not payloads.EVENTS <= events <= payloads.EVENTS + MORE_EVENTS:
            raise RuntimeError(f"{contestant.name} handed on {events} events of {payloads.EVENTS} ({streamed})")


def _ask(running: Running, provider: str, body: bytes) -> bytes:
    """Ask once; who says that it cannot yet, because its database is still being opened, is asked again."""
    usual = {"content-type": "application/json", "authorization": f"Bearer {payloads.KEY}"}
    gives_up_s = time.perf_counter() + READY_LIMIT_S
    while True:
        link = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        link.request("POST", PATH, body, usual | dict(running.headers(provider)))
        answer = link.getresponse()
        told = answer.read()
        link.close()
        if answer.status != http.client.SERVICE_UNAVAILABLE or time.perf_counter() > gives_up_s:
            return told
        time.sleep(0.1)
