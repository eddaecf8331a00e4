import base64
import json
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Usage
from llmgateway.routing.expected import expected, expected_usage, rough_bounds
from llmgateway.tokens import TokenCounter
from llmgateway.wire.texts import text_of_request
from tests.deployments import deployment
from tests.timing import relative_cost

BODY = b"x" * 400
VISION = frozenset({"vision"})
# The first article of the Universal Declaration of Human Rights, or some of it, and what else is sent.
TEXTS = (
    "All human beings are born free and equal in dignity and rights.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",  # noqa: RUF001  its own letters
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",  # noqa: RUF001  its own letters
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "人人生而自由，在尊严和权利上一律平等。",  # noqa: RUF001  its own letters
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "def count(text: str) -> int:\n    return len(text.split())  # words\n",
    '{"id": 17, "name": "Ann", "tags": ["a", "b"], "price": 12.50, "at": "2026-01-01T00:00:00Z"}\n',
    "| a    | b    |\n|------|------|\n| 1    | 2    |\n",
    "😀 🎉 👍🏽 ❤️ ",
)
WORDS = sorted({word for text in TEXTS for word in re.findall(r"\S+", text)})


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return TokenCounter()


def chat(content: object, needs: frozenset[str] = frozenset(), **fields: object) -> Call:
    body = msgspec.json.encode({"model": "chat", "messages": [{"role": "user", "content": content}], **fields})
    return Call("chat", "chat", body, needs=needs)


def picture(size_bytes: int) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(bytes(size_bytes)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def escaped(call: Call) -> Call:
    """Write every letter that is not ASCII as an escape, as Python's own JSON does."""
    return Call(call.operation, call.model, json.dumps(json.loads(call.body)).encode())


@pytest.mark.parametrize(
    ("call", "made", "guess"),
    [
        (Call("chat", "chat", BODY), deployment(), (100, 500)),
        (Call("chat", "chat", BODY, max_tokens=7), deployment(), (100, 7)),
        (Call("chat", "chat", BODY, max_tokens=7, n=3), deployment(), (100, 21)),
        (Call("chat", "chat", BODY, max_tokens=10**9), deployment(max_output_tokens=4096), (100, 4096)),
        (Call("chat", "chat", BODY), deployment(max_output_tokens=50), (100, 50)),
        (Call("chat", "chat", BODY), deployment(defaults={"max_tokens": 30}), (100, 30)),
        (Call("chat", "chat", BODY), deployment(defaults={"temperature": 0}), (100, 500)),
        (Call("embedding", "embed", BODY, n=5), deployment(), (100, 0)),
        (Call("chat", "chat", b"x" * 8_000_000), deployment(context_length=128_000), (128_000, 500)),
        (Call("chat", "chat", BODY, needs=frozenset({"tools"})), deployment(), (100, 500)),
    ],
)
def test_tokens_are_guessed_before_the_call(call: Call, made: Deployment, guess: tuple[int, int]) -> None:
    assert expected(call, made) == guess


def test_the_guess_is_marked_as_one_where_it_is_written_down() -> None:
    assert expected_usage(Call("chat", "chat", BODY, max_tokens=7), deployment()) == Usage(100, 7, estimated=True)


def test_what_was_counted_is_not_guessed() -> None:
    call = Call("chat", "chat", BODY, max_tokens=7)

    assert expected(call, deployment(context_length=1000), 123_456) == (123_456, 7)
    assert expected(Call("embedding", "embed", BODY), deployment(), 0) == (0, 0)


def test_a_picture_counts_as_one_and_not_as_its_base64() -> None:
    small, large = (chat([{"type": "text", "text": "?"}, picture(size)], VISION) for size in (300, 3_000_000))

    guess, _ = expected(large, deployment())

    assert 765 < guess < 765 + 60
    assert abs(expected(small, deployment())[0] - guess) <= 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=60))
def test_bounds_hold_for_texts_in_several_scripts(counter: TokenCounter, texts: list[str]) -> None:
    call = chat(" ".join(texts))

    fewest, most = rough_bounds(call)

    assert fewest <= counted(call, counter) <= most


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(WORDS), max_size=100), st.integers(1, 100))
def test_bounds_hold_for_words_in_any_order_and_length(counter: TokenCounter, words: list[str], times: int) -> None:
    call = chat(" ".join(words) * times)

    fewest, most = rough_bounds(call)

    assert fewest <= counted(call, counter) <= most


@pytest.mark.parametrize("text", TEXTS)
def test_bounds_hold_for_long_texts_of_one_kind_even_when_json_escapes_them(counter: TokenCounter, text: str) -> None:
    for call in (chat(text * 500), escaped(chat(text * 500))):
        fewest, most = rough_bounds(call)

        assert fewest <= counted(call, counter) <= most


def test_bounds_hold_for_many_short_messages_and_for_what_is_no_prompt(counter: TokenCounter) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 500
    many = Call("chat", "chat", msgspec.json.encode({"messages": messages}))
    beside = chat("hi", metadata={f"key{place}": "v" * 480 for place in range(16)})

    for call in (many, beside):
        fewest, most = rough_bounds(call)
        assert fewest <= counted(call, counter) <= most


def test_bounds_leave_out_base64_and_leave_room_for_what_models_make_of_pictures(counter: TokenCounter) -> None:
    call = chat([{"type": "text", "text": "?"}, picture(3_000_000)], VISION)

    fewest, most = rough_bounds(call)

    assert fewest == 0
    assert counted(call, counter) < most < 4 * 765


def test_bounds_of_a_very_long_body_leave_out_base64_that_nobody_spoke_of() -> None:
    film = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "A" * 6_000_000}}

    fewest, most = rough_bounds(chat([film]))

    assert fewest == 0
    assert 10_000 < most < 100_000


@pytest.mark.alone
def test_guesses_cost_next_to_nothing_where_there_is_only_text() -> None:
    small, long = chat("hello " * 40), chat("hello " * 30_000)
    made = deployment(context_length=128_000)

    # The unit is some three microseconds.
    assert relative_cost(lambda: expected(small, made), number=20_000) < 0.4
    assert relative_cost(lambda: rough_bounds(small), number=20_000) < 0.4
    assert relative_cost(lambda: expected(long, made), number=20_000) < 0.4
    assert relative_cost(lambda: rough_bounds(long), number=20_000) < 1


@pytest.mark.alone
def test_a_picture_of_megabytes_is_passed_over_at_the_speed_of_memory() -> None:
    call = chat([{"type": "text", "text": "?"}, picture(3_000_000)], VISION)

    assert relative_cost(lambda: expected(call, deployment()), number=200) < 200


def counted(call: Call, counter: TokenCounter) -> int:
    prompt = text_of_request(call.operation, call.body)
    return prompt.further_tokens + counter.counted(prompt.texts, "gpt-4o").tokens
