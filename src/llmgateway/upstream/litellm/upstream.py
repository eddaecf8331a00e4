"""The upstream for providers that do not speak OpenAI's wire: the call is translated, and the answer back."""

import asyncio
from typing import Any

from llmgateway.catalog.model import Account, Deployment
from llmgateway.exchange import Call, Complete, Header, Reply, Streamed
from llmgateway.upstream.errors import error_in_body, upstream_error
from llmgateway.upstream.http.head import pattern_of
from llmgateway.upstream.http.response import Response
from llmgateway.upstream.litellm.answers import ChunkWriter, whole_answer
from llmgateway.upstream.litellm.embedding import embed
from llmgateway.upstream.litellm.errors import Reading, translating
from llmgateway.upstream.litellm.library import Library, LibraryCall
from llmgateway.upstream.litellm.question import read_question, refuse_remote_media
from llmgateway.upstream.litellm.stream import TranslatedChunks
from llmgateway.upstream.litellm.translation import Request, Wire
from llmgateway.upstream.litellm.wires import WIRES
from llmgateway.upstream.transport import Transport, read_body

_OK = 200
_MAX_WIRES = 1000
# Above this, translating is left to a thread: it would hold up every other call.
_MAX_BYTES_ON_LOOP = 256 * 1024
_PASSED_ON = pattern_of(rb"(?:x-)?request-id|(?:x|anthropic)-ratelimit-[^:\r]*")

Route = Wire | LibraryCall


class LiteLLMUpstream:
    """Speaks to Anthropic, Gemini, Cohere and Ollama directly, and to every other provider through LiteLLM's own calls.

    Args:
        transport: Shared with the relay; whoever made it closes it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._library = Library()
        self._routes: dict[tuple[str, str], tuple[Deployment, Route]] = {}

    async def warm(self) -> None:
        """Import LiteLLM now, in a thread, so that no call waits for it."""
        await self._library.ready()

    async def send(self, deployment: Deployment, call: Call) -> Reply:
        litellm = await self._library.ready()
        if call.operation == "embedding":
            return await embed(litellm, deployment, call)
        route = self._route(litellm, deployment)
        if isinstance(route, LibraryCall):
            return await route.send(call)
        with translating(deployment.account):
            if len(call.body) > _MAX_BYTES_ON_LOOP:
                request = await asyncio.to_thread(_request, route, deployment, call)
            else:
                request = _request(route, deployment, call)
        account = deployment.account
        response = await self._transport.post(account, self._transport.url(request.url), request.headers, request.body)
        if response.status != _OK:
            raise upstream_error(response.status, await read_body(response, account), response.headers, account)
        if call.stream:
            return await _streamed(response, account, route, request, ChunkWriter(call, deployment.model))
        return await _complete(response, deployment, request, call)

    async def close(self) -> None:
        """Give back the connections that LiteLLM opened by itself."""
        await self._library.close()

    def _route(self, litellm: Any, deployment: Deployment) -> Route:
        key = (deployment.account.name, deployment.model)
        known = self._routes.get(key)
        # A changed catalog has other deployments of the same names.
        if known is not None and (known[0] is deployment or known[0] == deployment):
            return known[1]
        with translating(deployment.account):
            make = WIRES.get(deployment.account.provider, LibraryCall)
            route = make(litellm, deployment)
        if len(self._routes) >= _MAX_WIRES:
            self._routes.clear()
        self._routes[key] = (deployment, route)
        return route


def _request(wire: Wire, deployment: Deployment, call: Call) -> Request:
    question = read_question(call, deployment, wire.known)
    refuse_remote_media(question.messages, wire.passes)
    return wire.request(question, stream=call.stream)


async def _complete(response: Response, deployment: Deployment, request: Request, call: Call) -> Complete:
    account = deployment.account
    body = await read_body(response, account)
    error = error_in_body(body, response.headers, account)
    if error is not None:
        raise error
    with Reading(account):
        if len(body) > _MAX_BYTES_ON_LOOP:
            pieces = await asyncio.to_thread(request.reader.answer, body, response.headers)
        else:
            pieces = request.reader.answer(body, response.headers)
    answer = whole_answer(pieces, call, deployment.model)
    answer.headers = _passed_on(response)
    return answer


async def _streamed(
    response: Response, account: Account, wire: Wire, request: Request, writer: ChunkWriter
) -> Streamed:
    chunks = TranslatedChunks(response, account, wire, request.reader, writer)
    try:
        await chunks.prime()
    except BaseException:
        await chunks.aclose()
        raise
    chunks.stream.headers = _passed_on(response)
    return chunks.stream


def _passed_on(response: Response) -> list[Header]:
    """The rate-limit and request-id headers of the provider, renamed so that nobody takes them for ours."""
    return [(b"x-upstream-" + name.removeprefix(b"x-"), value) for name, value in response.fields(_PASSED_ON)]
