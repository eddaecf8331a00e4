import pytest

from llmgateway.errors import InvalidRequestError
from llmgateway.keys.proof import read_proof, refuse_repeated


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer lgw_1"},
        {b"authorization": b"bearer   lgw_1 "},
        {b"x-api-key": b"lgw_1"},
        {b"api-key": b" lgw_1"},
        {b"openai-api-key": b"lgw_1"},
        {b"authorization": b"Bearer lgw_1", b"x-api-key": b"lgw_1", b"api-key": b"lgw_1"},
        {b"authorization": b"Basic dXNlcjpwYXNz", b"x-api-key": b"lgw_1"},
        {b"authorization": b"Bearer ", b"x-api-key": b"lgw_1"},
    ],
)
def test_a_key_is_found_wherever_a_client_puts_it(headers: dict[bytes, bytes]) -> None:
    assert read_proof(headers) == b"lgw_1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer  "},
        {b"authorization": b"Basic dXNlcjpwYXNz"},
        {b"authorization": b"lgw_1"},
        {b"x-api-key": b""},
        {b"x-other": b"lgw_1"},
    ],
)
def test_without_a_key_there_is_none(headers: dict[bytes, bytes]) -> None:
    assert read_proof(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer lgw_1", b"x-api-key": b"lgw_2"},
        {b"x-api-key": b"lgw_1", b"api-key": b"lgw_2"},
        {b"api-key": b"lgw_1", b"openai-api-key": b"lgw_12"},
    ],
)
def test_two_different_keys_are_refused_and_neither_is_told(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidRequestError, match="send one") as refused:
        read_proof(headers)

    assert "lgw_" not in refused.value.message


def test_a_header_that_comes_twice_is_refused_when_its_keys_differ() -> None:
    with pytest.raises(InvalidRequestError):
        refuse_repeated([(b"authorization", b"Bearer a"), (b"accept", b"x"), (b"authorization", b"Bearer b")])

    refuse_repeated(
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer a"), (b"accept", b"x"), (b"accept", b"y")]
    )
