import msgspec
import pytest

from llmgateway.routing.heard import Heard
from tests.timing import relative_cost


def event(text: str, number: int = 0) -> bytes:
    chunk = {
        "id": "chatcmpl-9xyzabcdefghijklmnop",
        "object": "chat.completion.chunk",
        "created": 1735689600,
        "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_abc123",
        "choices": [{"index": number, "delta": {"content": text}, "logprobs": None, "finish_reason": None}],
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def test_a_short_stream_is_kept_as_it_came() -> None:
    heard = Heard()
    heard.append(event("one"))
    heard.append(event(" two"))

    assert heard.text() == "one two"
    assert heard.tail() == event("one") + event(" two")


def test_nothing_was_heard_of_a_stream_that_never_began() -> None:
    assert (Heard().text(), Heard().tail()) == ("", b"")


def test_of_a_long_stream_all_text_and_the_last_events_are_kept() -> None:
    heard = Heard()
    words = [f" wörd{number}" for number in range(5000)]
    for word in words:
        heard.append(event(word))

    assert heard.text() == "".join(words)
    assert heard.tail().endswith(event(words[-1]))
    assert heard.tail().startswith(b"data: ")


def test_the_tail_is_there_right_after_the_text_was_taken_out() -> None:
    heard = Heard()
    heard.append(b"".join(event(" word") for _ in range(200)))

    assert heard.tail().endswith(event(" word"))
    assert heard.text() == " word" * 200


def test_an_event_longer_than_the_tail_is_not_cut_in_two() -> None:
    heard = Heard()
    heard.append(event("x" * 50_000))

    assert heard.tail() == b""
    assert heard.text() == "x" * 50_000


def test_a_stream_without_end_is_kept_up_to_four_megabytes_and_weighed_beyond() -> None:
    heard = Heard()
    for _ in range(100):
        heard.append(event("word " * 20_000))

    assert len(heard.text()) == 4_100_000
    assert heard.beyond_bytes == 5_900_000


@pytest.mark.alone
def test_hearing_a_chunk_costs_next_to_nothing() -> None:
    events = [event(f" word{number}") for number in range(3000)]

    def hear() -> None:
        heard = Heard()
        for one in events:
            heard.append(one)

    assert relative_cost(hear, number=2) / len(events) < 0.45, "0.15 on a quiet machine"
