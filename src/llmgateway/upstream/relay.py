"""OpenAI's wire: a client's bytes go out with only the model's name and defaults set, the answer's bytes come back."""

import asyncio
import re
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from multidict import CIMultiDict
from yarl import URL

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import GatewayError, UpstreamError, UpstreamRejectedError
from llmgateway.exchange import Call, Complete, Header, Operation, Reply, Streamed, Usage
from llmgateway.upstream.base import usage_of
from llmgateway.upstream.errors import upstream_error
from llmgateway.upstream.http.head import RequestHead, pattern_of
from llmgateway.upstream.http.pool import Pool
from llmgateway.upstream.http.response import Response
from llmgateway.upstream.transport import MAX_RESPONSE_BYTES, Transport, connection_failure, post_head, read_body
from llmgateway.wire.answers import Answer, read_answer
from llmgateway.wire.rewrite import rewrite
from llmgateway.wire.sse import DONE, ENDS, ChatScan, EventTooLongError, WholeStream

PATHS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "completion": "/completions",
    "embedding": "/embeddings",
}
# A stream's connection is worth keeping if its end follows `[DONE]` this soon; the client does not wait longer.
_END_AFTER_DONE_S = 0.05
# Comments before the first event say that the upstream lives; a client misses nothing if not all of them reach it.
_MAX_COMMENT_BYTES = 64 * 1024
# What a header's value may not hold (RFC 9110, section 5.5), nor Latin-1 say.
_UNSENDABLE = re.compile(r"[^\t -~\x80-\xff]")
_TRACE_NAMES = ("traceparent", "tracestate", "baggage")
# Above this size a body is made ready in a thread, so that others do not wait for it; a stream goes on piece by piece.
_LARGE_BYTES = 256 * 1024
# Names made up by clients must not fill the memory.
_MOST_LINES = 4096
_OK = range(200, 300)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_PASSED_ON = pattern_of(rb"x-(?:request-id|ratelimit-[^:\r]*)|re(?:quest-id|try-after)")


class _Line(NamedTuple):
    """The way to one model: what every question there begins with, and who sends it."""

    account: Account
    head: RequestHead
    pool: Pool


class Relay:
    """The upstream for every provider that speaks OpenAI's wire, Azure's form of it included."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lines: dict[tuple[str, str, Operation], _Line] = {}

    async def send(self, deployment: Deployment, call: Call) -> Reply:
        account = deployment.account
        large = len(call.body) > _LARGE_BYTES
        body = await asyncio.to_thread(_body, deployment, call) if large else _body(deployment, call)
        more = _trace_lines(call.trace_headers) if call.trace_headers else b""
        try:
            line = self._lines.get((account.name, deployment.model, call.operation))
            if line is None or line.account is not account:
                line = self._line(account, deployment.model, call.operation)
            response = await line.pool.ask(line.head, body, more)
        except OSError as error:
            raise connection_failure(error, account) from error
        if response.status != 200:  # noqa: PLR2004  OK
            body = await read_body(response, account)
            raise upstream_error(response.status, body, response.headers, account)
        if call.stream:
            return await _streamed(response, account, include_usage=call.include_usage)
        answer = response.whole(MAX_RESPONSE_BYTES)
        if answer is None:
            answer = await read_body(response, account)
        return _complete(answer, response, account)

    def _line(self, account: Account, model: str, operation: Operation) -> "_Line":
        """Make ready what all calls there have in common. Raises: UpstreamRejectedError, NotAnAddressError."""
        url = address(account.wire, account.api_base or "", model, account.api_version, operation)
        head = post_head(url, credentials(account.wire, account.api_key))
        if len(self._lines) >= _MOST_LINES:
            self._lines.clear()
        line = self._lines[account.name, model, operation] = _Line(account, head, self._transport.pool(account))
        return line

    async def probe(self, deployment: Deployment) -> bool:
        """Ask for the list of models, which costs nothing. Fills `upstream.base.Probed`."""
        account = deployment.account
        url = models_address(account.wire, account.api_base or "", account.api_version)
        response = await self._transport.get(account, url, credentials(account.wire, account.api_key))
        if response.status in _OK:
            response.close()
            return True
        error = upstream_error(response.status, await read_body(response, account), response.headers, account)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise error
        # A key may be good for calls alone: OpenAI names the scope that it lacks.
        if response.status in _REFUSED and "scope" not in error.message.lower():
            raise error
        return False

    async def close(self) -> None:
        """Nothing of its own: the transport belongs to whoever made it."""


def _body(deployment: Deployment, call: Call) -> bytes:
    account = deployment.account
    return rewrite(
        call.body,
        deployment.model,
        deployment.defaults,
        known=call.fields,
        renames=account.renames,
        ask_usage=call.stream and not call.include_usage,
        drop_stream_options=not account.takes_stream_options,
    )


def address(wire: str, api_base: str, model: str, api_version: str | None, operation: Operation) -> URL:
    """Where an operation is served: the account's address and a path from the table above, nothing of the client's.

    Azure names the deployment in the path (Azure OpenAI REST API reference).

    Raises:
        UpstreamRejectedError: The name would be a step up or down in the path (RFC 3986, section 5.2.4).
    """
    if wire == "azure":
        if model in {".", ".."}:
            raise UpstreamRejectedError(
                f"Azure has no deployment `{model}`: name one as its resource lists it.",
                upstream_status=404,
                param="model",
                code="model_not_found",
            )
        # One path segment, whatever the name holds.
        place = f"/openai/deployments/{quote(model, safe='')}{PATHS[operation]}?api-version={quote(api_version or '')}"
        return URL(api_base.rstrip("/") + place, encoded=True)
    return URL(api_base.rstrip("/") + PATHS[operation])


def models_address(wire: str, api_base: str, api_version: str | None) -> URL:
    """Where the models are listed (OpenAI API reference; Azure OpenAI REST API reference)."""
    if wire == "azure":
        return URL(f"{api_base.rstrip('/')}/openai/models?api-version={quote(api_version or '')}", encoded=True)
    return URL(api_base.rstrip("/") + "/models")


def credentials(wire: str, api_key: str | None) -> CIMultiDict[str]:
    """Return the header that proves who we are; none for a local server without a key."""
    if not api_key:
        return CIMultiDict()
    return CIMultiDict({"api-key": api_key} if wire == "azure" else {"Authorization": f"Bearer {api_key}"})


def _trace_lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Write the trace context as header lines: no other name, and no value that would not stay one line."""
    return b"".join(
        f"{name}: {value}\r\n".encode()
        for name, value in headers
        if name in _TRACE_NAMES and value.isascii() and value.isprintable()
    )


def _passed_on(response: Response) -> list[Header]:
    """The rate-limit and request-id headers of the upstream, renamed so that nobody takes them for ours."""
    return [
        (b"x-upstream-" + name.removeprefix(b"x-"), value if value.isascii() else _sendable(value))
        for name, value in response.fields(_PASSED_ON)
    ]


def _sendable(value: bytes) -> bytes:
    return _UNSENDABLE.sub("?", value.decode("utf-8", "surrogateescape")).encode("latin-1")


def _usage(answer: Answer) -> Usage | None:
    return None if answer.usage is None else usage_of(answer.usage, answer.service_tier)


def _complete(body: bytes, response: Response, account: Account) -> Complete:
    answer = read_answer(body)
    if answer is None:
        raise UpstreamError(f"{account.provider} sent an answer that is not JSON.", may_retry=True)
    if answer.is_failure:
        raise _hidden_error(body, response, account)
    if not answer.is_answer:
        raise UpstreamError(f"{account.provider} sent JSON that is no answer.", may_retry=True)
    usage = None if answer.usage is None else usage_of(answer.usage, answer.service_tier)
    return Complete(body, usage, _passed_on(response), answer.model, answer.is_whole if answer.choices else None)


def _hidden_error(body: bytes, response: Response, account: Account) -> GatewayError:
    """An error that came with status 200: as if it had come with the status its own type and code stand for."""
    return upstream_error(200, body, response.headers, account)


async def _given(events: bytes) -> bytes:
    return events


async def _streamed(response: Response, account: Account, *, include_usage: bool) -> Streamed:
    stream = Streamed(chunks=(chunks := RelayChunks(response, account, include_usage=include_usage)))
    chunks.stream = stream
    try:
        await chunks.prime()
    except BaseException:
        await chunks.aclose()
        raise
    stream.headers = _passed_on(response)
    if whole := chunks.whole():
        stream.chunks = WholeStream(whole)
    return stream


class RelayChunks:
    """A stream's events as they arrive. Waiting for the next one may be cancelled and taken up again."""

    __slots__ = ("_account", "_first", "_over", "_response", "_scan", "stream")

    def __init__(self, response: Response, account: Account, *, include_usage: bool) -> None:
        self._response = response
        self._account = account
        self._scan = ChatScan(include_usage=include_usage)
        self._first = b""
        self._over = False
        self.stream: Streamed | None = None

    def __aiter__(self) -> Self:
        return self

    async def prime(self) -> None:
        """Wait for the first event. Raises: UpstreamError for an error instead of one, or for nothing at all."""
        while not self._scan.started:
            # Comments before it are no answer yet, but they are the client's.
            events = await self._read()
            if len(self._first) < _MAX_COMMENT_BYTES or self._scan.started:
                self._first += events

    def whole(self) -> bytes:
        """All events, where what brought the first brought the last and the connection is back; else nothing."""
        scan, first = self._scan, self._first
        is_whole = scan.done and scan.error is None and len(first) <= _LARGE_BYTES and first.endswith(ENDS)
        return first if is_whole and self._response.content.at_eof() else b""

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        if self._first:
            first, self._first = self._first, b""
            return _given(first)
        return self._read()

    async def aclose(self) -> None:
        self._note_usage()
        self._response.close()

    async def _read(self) -> bytes:
        scan = self._scan
        if self._over or scan.done or scan.error is not None:
            await self._finish()
        content = self._response.content
        try:
            # An upstream that is never silent must not keep the rest of the process waiting: each turn awaits.
            while received := await content.readany():
                if events := scan.feed(received):
                    if scan.done:
                        self._note_usage()
                    return events
                if scan.error is not None:
                    raise self._failed(scan.error)
        except EventTooLongError:
            raise self._broken("sends an event without an end") from None
        except OSError as error:
            self._note_usage()
            raise connection_failure(error, self._account) from error
        return self._ended()

    def _ended(self) -> bytes:
        """The connection ended without `[DONE]`: whole only if the last events say why the answer stops."""
        self._over = True
        self._note_usage()
        rest = self._scan.rest.strip()
        if rest in {b"data: [DONE]", b"data:[DONE]"}:
            return self._scan.feed(b"\n\n")
        if not self._scan.started:
            raise self._no_stream(rest)
        if rest or not self._scan.finished:
            raise self._broken("ended the stream before the answer was complete")
        return self._scan.feed(DONE)

    async def _finish(self) -> None:
        """Give the connection back for the next call, if its end is near, and stop; or say why the stream broke off."""
        if self._scan.error is not None:
            raise self._failed(self._scan.error)
        content = self._response.content
        if not content.at_eof():
            try:
                async with asyncio.timeout(_END_AFTER_DONE_S):
                    while not self._over and await content.readany():
                        continue
            except OSError:
                self._response.close()
        raise StopAsyncIteration

    def _note_usage(self) -> None:
        """Tell the stream what it used, once: nothing is read after that."""
        stream, self.stream = self.stream, None
        if stream is not None and (answer := self._scan.usage()) is not None:
            stream.usage = _usage(answer)
            stream.model = answer.model

    def _failed(self, payload: bytes) -> GatewayError:
        self._note_usage()
        self._response.close()
        return upstream_error(200, payload, self._response.headers, self._account)

    def _no_stream(self, body: bytes) -> GatewayError:
        """Status 200 and not one event: an error as plain JSON, another kind of answer, or nothing."""
        answer = read_answer(body)
        if answer is not None and answer.is_failure:
            return self._failed(body)
        return self._broken("answered a request for a stream with something else" if body else "sent an empty stream")

    def _broken(self, what: str) -> UpstreamError:
        self._note_usage()
        self._response.close()
        return UpstreamError(f"{self._account.provider} {what}.", may_retry=True)
