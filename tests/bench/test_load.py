import pytest

from bench.load import Answer, post

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\ndata:1\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("wire", [WHOLE, CHUNKED])
def test_an_answer_ends_with_its_last_byte_however_it_is_cut(wire: bytes) -> None:
    for cut in range(1, len(wire)):
        answer = Answer()

        assert not answer.feed(wire[:cut])
        assert answer.feed(wire[cut:])
        assert answer.ok


def test_an_answer_byte_by_byte_ends_with_its_last() -> None:
    answer = Answer()

    assert [answer.feed(bytes([byte])) for byte in CHUNKED] == [False] * (len(CHUNKED) - 1) + [True]


def test_an_answer_that_is_not_200_is_a_fault() -> None:
    answer = Answer()

    assert answer.feed(WHOLE.replace(b"200 OK", b"502 Bad"))
    assert not answer.ok


def test_a_request_declares_its_length() -> None:
    assert b"content-length: 4\r\n" in post("/x", b"{ }\n")
    assert post("/x", b"{ }\n").startswith(b"POST /x HTTP/1.1\r\n")
