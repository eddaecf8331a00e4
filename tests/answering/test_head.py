import pytest

from llmgateway.answering.head import shape_of
from llmgateway.headers import may_leave


def test_heads_of_one_shape_are_written_once() -> None:
    shape = shape_of(200, (b"Content-Type", b"content-length"))

    assert shape.template % (b"a/b", b"7") == b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-length: 7\r\n"
    assert (shape.length_at, shape.connection_at, shape.frames) == (1, (), False)
    assert shape_of(200, (b"Content-Type", b"content-length")) is shape


def test_what_tells_of_the_body_and_the_connection_is_found() -> None:
    shape = shape_of(200, (b"Connection", b"x", b"CONNECTION", b"Transfer-Encoding"))

    assert (shape.length_at, shape.connection_at, shape.frames) == (None, (0, 2), True)


def test_of_two_lengths_the_first_counts() -> None:
    assert shape_of(200, (b"x", b"content-length", b"content-length")).length_at == 1


@pytest.mark.parametrize(("status", "line"), [(404, b"404 Not Found"), (599, b"599 "), (299, b"299 ")])
def test_a_status_needs_no_name(status: int, line: bytes) -> None:
    assert shape_of(status, ()).template == b"HTTP/1.1 %b\r\n" % line


def test_a_name_may_hold_what_would_be_a_place_for_a_value() -> None:
    assert shape_of(200, (b"x%b%s",)).template % (b"v",) == b"HTTP/1.1 200 OK\r\nx%b%s: v\r\n"


@pytest.mark.parametrize("name", [b"a b", b"a:", b"a\r", b"a\n", b"a\0", b"a\x7f", b"\ta", b"a(b)"])
def test_what_is_no_name_raises(name: bytes) -> None:
    with pytest.raises(RuntimeError, match="header's name"):
        shape_of(200, (b"x", name))


def test_a_value_holds_all_but_control_characters() -> None:
    refused = [byte for byte in range(256) if not may_leave((b"a", b"b" + bytes([byte])))]

    assert refused == [*range(9), *range(10, 32), 127]
    assert may_leave(())
