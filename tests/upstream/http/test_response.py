import pytest
from yarl import URL

from llmgateway.upstream.http.head import pattern_of
from llmgateway.upstream.http.pool import Pool
from tests.upstream.http.speaking import OK, saying, serving


async def test_an_answer_says_what_its_head_says(pool: Pool) -> None:
    head = b"HTTP/1.1 429 Slow Down\r\nx-REQUEST-id: 7\r\nCONTENT-length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok"
    async with serving(saying([head]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

    assert (response.status, response.content_length, response.encoding) == (429, 2, None)
    assert response.headers["X-Request-Id"] == "7"
    assert response.headers.getall("set-cookie") == ["a", "b"]
    assert response.headers is response.headers
    assert "content-encoding" not in response.headers


async def test_some_fields_are_found_without_reading_the_others(pool: Pool) -> None:
    fields = (
        b"X-RateLimit-Left: Seven \t\r\nx-ratelimit-: 1\r\nX-Request-Id:aB\r\nNot-x-request-id: c\r\nratelimit-x: d\r\n"
    )
    head = b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\n\r\n" % fields
    async with serving(saying([head]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

    assert response.fields(pattern_of(rb"x-request-id|x-ratelimit-[^:\r]*")) == [
        (b"x-ratelimit-left", b"Seven"),
        (b"x-ratelimit-", b"1"),
        (b"x-request-id", b"aB"),
    ]


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"X: Content-Length: 7\r\n\r\n"])
async def test_a_length_that_is_not_said_is_not_known(pool: Pool, head: bytes) -> None:
    async with serving(saying([b"HTTP/1.1 200 OK\r\n" + head], ends=True), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

        assert response.content_length is None


async def test_to_close_an_unread_answer_hangs_up_and_to_close_one_that_has_come_does_not(pool: Pool) -> None:
    held = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"
    async with serving(saying([OK], [held]), pool) as server:
        whole = await pool.post(URL(server.url), {}, b"{}")
        whole.close()
        assert pool.connections() == (1, 0)
        part = await pool.post(URL(server.url), {}, b"{}")
        assert pool.connections() == (0, 1)
        part.close()
        part.close()
        assert pool.connections() == (0, 0)
        await server.until_all_gone()

    assert server.connections == 1


async def test_an_answer_that_nobody_holds_any_more_gives_its_place_back(pool: Pool) -> None:
    async with serving(saying([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"])) as server:
        await pool.post(URL(server.url), {}, b"{}")
        await server.until_all_gone()

    assert pool.connections() == (0, 0)


async def test_a_body_that_has_come_is_given_whole_unless_it_is_packed(pool: Pool) -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok"
    async with serving(saying([OK], [packed]), pool) as server:
        plain = await pool.post(URL(server.url), {}, b"{}")
        assert (plain.whole(1), plain.whole(2)) == (None, b"ok")
        other = await pool.post(URL(server.url), {}, b"{}")
        assert other.whole(100) is None
