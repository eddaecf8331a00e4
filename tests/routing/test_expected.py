import pytest

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Usage
from llmgateway.routing.expected import expected, expected_usage
from tests.deployments import deployment

BODY = b"x" * 400


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
    ],
)
def test_tokens_are_guessed_before_the_call(call: Call, made: Deployment, guess: tuple[int, int]) -> None:
    assert expected(call, made) == guess


def test_the_guess_is_marked_as_one_where_it_is_written_down() -> None:
    assert expected_usage(Call("chat", "chat", BODY, max_tokens=7), deployment()) == Usage(100, 7, estimated=True)
