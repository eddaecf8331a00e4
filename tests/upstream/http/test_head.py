import pytest
from multidict import CIMultiDict
from yarl import URL

from llmgateway.upstream.http.failures import NotAnAddressError
from llmgateway.upstream.http.head import Origin, end_of_whole, field, read_fields, request_head

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-Empty:\r\nX-Two: one\r\nx-two:\t two \t\r\nX-Raw: \xe9\xc3\xa9\r\n"


def test_a_request_is_written_up_to_its_length() -> None:
    url = URL("https://user:secret@example.org:8443/a%2Fb?q=%20#part")
    start, origin = request_head("POST", url, (("Accept", "*/*"), ("X-A", "1")), (("x-a", "2"),))

    assert start == (
        b"POST /a%2Fb?q=%20 HTTP/1.1\r\nAccept: */*\r\nx-a: 2\r\nHost: example.org:8443\r\nContent-Length: "
    )
    assert origin == Origin("example.org", 8443, is_secure=True)


@pytest.mark.parametrize(
    ("url", "host", "origin"),
    [
        ("http://example.org", b"example.org", ("example.org", 80, False)),
        ("https://example.org:443/x", b"example.org", ("example.org", 443, True)),
        ("http://[::1]:80/", b"[::1]", ("::1", 80, False)),
        ("http://bücher.example/", b"xn--bcher-kva.example", ("xn--bcher-kva.example", 80, False)),
    ],
)
def test_a_request_names_its_host(url: str, host: bytes, origin: tuple[str, int, bool]) -> None:
    head = request_head("GET", URL(url), (), ())

    assert b"\r\nHost: %b\r\n" % host in head.start
    assert head.origin == origin


@pytest.mark.parametrize("url", ["http:///x", "/x", "ftp://example.org/", "file:///etc/passwd", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(NotAnAddressError):
        request_head("GET", URL(url), (), ())


@pytest.mark.parametrize("field", [("X", "\udc80"), ("content-length", "7"), ("Transfer-Encoding", "chunked")])
def test_a_header_that_cannot_be_sent_is_refused(field: tuple[str, str]) -> None:
    with pytest.raises(NotAnAddressError):
        request_head("GET", URL("http://provider.example/"), (), (field,))


def test_the_same_request_is_written_once() -> None:
    own = tuple(CIMultiDict({"a": "b"}).items())

    assert request_head("GET", URL("http://h/x"), (), own) is request_head("GET", URL("http://h/x"), (), own)


def test_fields_are_read_in_order_and_their_names_have_no_case() -> None:
    fields = read_fields(HEAD)

    assert [name for name, _ in fields.items()] == ["Content-Length", "X-Empty", "X-Two", "x-two", "X-Raw"]
    assert fields.getall("X-TWO") == ["one", "two"]
    assert fields["x-empty"] == ""
    assert fields["x-raw"].encode("utf-8", "surrogateescape") == b"\xe9\xc3\xa9"


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"content-length", b"12"), (b"x-empty", b""), (b"x-two", b"one"), (b"length", None), (b"x", None), (b"ok", None)],
)
def test_a_field_is_found_without_reading_the_others(name: bytes, value: bytes | None) -> None:
    assert field(HEAD.lower(), name) == value


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5",
        b"content-length:5",
        b'Date: now\r\nConnection: keep-alive\r\nContent-Length: 5\r\nServer: x\r\nX-Empty:\r\nalt-svc: h3=":443"',
    ],
)
def test_the_end_of_a_head_is_found_whose_body_came_with_it(fields: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % fields

    assert end_of_whole(head + b"hello") == len(head)
    assert (end_of_whole(head + b"hell"), end_of_whole(head + b"hello "), end_of_whole(head)) == (0, 0, 0)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 201 Created\r\nContent-Length: 5",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nDate: now",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n X: folded",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: caf\xc3\xa9",
        b"HTTP/1.1 200 OK\nContent-Length: 5",
    ],
)
def test_a_head_of_which_more_is_to_be_said_is_left_to_the_parser(head: bytes) -> None:
    assert end_of_whole(head + b"\r\n\r\nhello") == 0
