import pytest

from bench import payloads
from bench.load import Answer, Requests, post

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


def test_a_contestants_headers_come_instead_of_the_usual_ones() -> None:
    request = post("/x", b"{}", {"authorization": "Bearer other", "x-more": "1"})

    assert request.count(b"authorization: ") == 1
    assert b"authorization: Bearer other\r\n" in request
    assert b"x-more: 1\r\n" in request


def test_each_request_has_a_number_of_its_own_where_there_is_room_for_one() -> None:
    numbered = Requests("/x", [payloads.question(payloads.SMALL)])
    same = Requests("/x", [payloads.question(payloads.SMALL, again=True)])

    several = {numbered.next() for _ in range(100)}
    assert len(several) == 100
    assert len({len(one) for one in several}) == 1
    assert payloads.SERIAL not in next(iter(several))
    assert len({same.next() for _ in range(100)}) == 1


def test_requests_come_in_turn_and_over_again() -> None:
    requests = Requests("/x", [b"one", b"two"])

    assert [requests.next()[-3:] for _ in range(4)] == [b"one", b"two", b"one", b"two"]
