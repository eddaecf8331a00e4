"""Orders as they come in: JSON with the text in it, or a form with a file."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, Field
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from llmgateway.documents.readers.reading import read, read_text
from llmgateway.documents.recipe import Extras
from llmgateway.documents_api.asked import (
    Body,
    checked_fields,
    content_of,
    digest_of,
    exchange_of,
    idempotency_asked,
    large_body_asked,
    organization_asked,
    sees_everything,
    unprocessable,
)
from llmgateway.exchange import Exchange
from llmgateway.jobs.order import Order
from llmgateway.jobs.planning import check_text
from llmgateway.telemetry.traces.context import write_traceparent

_MOST_FIELDS, _LONGEST_FIELD_BYTES = 40, 1024 * 1024
_MOST_TAGS = 1000
_MOST_METADATA_BYTES = 16 * 1024
_JSON_FIELDS = ("metadata", "context")
# Below this a text is read in less time than a thread costs.
_INLINE_CHARS = 20_000


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    size_bytes = len(msgspec.json.encode(metadata))
    if size_bytes > _MOST_METADATA_BYTES:
        raise ValueError(f"is {size_bytes} bytes of JSON, and {_MOST_METADATA_BYTES} is the most")
    return metadata


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable, on one line")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Tag(Body):
    """Something that a result may be about."""

    name: Name
    description: Annotated[str, Field(max_length=4000)] = ""
    category: Name | None = None


class Context(Body):
    """What a result is to be categorized by."""

    tags: Annotated[tuple[Tag, ...], Field(max_length=_MOST_TAGS)] = ()
    allow_new_tags: bool = False


class Asking(Body):
    """What is asked beside the document."""

    flavor_id: Name | None = None
    flavor_name: Name | None = None
    organization_id: str | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_small)] | None = None
    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    context: Context | None = None
    instructions: Annotated[str, Field(max_length=20_000)] | None = None
    language: Name | None = None
    webhook_url: Annotated[str, Field(max_length=2048), AfterValidator(_printable)] | None = None


class Execution(Asking):
    """A document as text."""

    input: str
    input_file_name: Name | None = None


async def order_asked(request: Request) -> Order:
    """Read an order of either form. Raises: GatewayError."""
    return await (order_of_file if _is_form(request) else order_of_json)(request)


async def order_of_json(request: Request) -> Order:
    """Read an order whose document is text.

    Raises:
        DocumentError: There is no text in it, or too much.
        UnprocessableError: Fields are wrong.
        NotFoundError: It names somebody else's organization.
    """
    body = await large_body_asked(request, Execution)
    check_text(body.input)
    document = await _apart(partial(read_text, body.input), len(body.input))
    return await _order(request, body, document.text, body.input_file_name, partial(digest_of, content_of(request)))


async def order_of_file(request: Request) -> Order:
    """Read an order whose document is a file.

    Raises:
        DocumentError: The file is nothing that can be read.
        UnprocessableError: Fields are wrong, or the file is missing.
        NotFoundError: It names somebody else's organization.
    """
    if not _is_form(request):
        raise unprocessable(
            [(("header", "Content-Type"), "must be multipart/form-data with the document in the field `file`")]
        )
    form = await _form(request)
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise unprocessable([(("body", "file"), "is missing: send the document as a file in this field")])
        content = await upload.read()
    finally:
        await form.close()
    fields = {field: value for field, value in form.multi_items() if isinstance(value, str)}
    body = checked_fields({field: _decoded(field, value) for field, value in fields.items() if value}, Asking)
    reading = partial(read, content, file_name=upload.filename, media_type=upload.content_type)
    document = await _apart(reading, len(content))
    # The form's bytes are others each time: its boundary is made up anew.
    told = msgspec.json.encode([document.name, sorted(fields.items())])
    return await _order(request, body, document.text, document.name, partial(_digest_of_form, told, content))


async def _order(request: Request, body: Asking, text: str, file_name: str | None, digest: Callable[[], Any]) -> Order:
    organization = organization_asked(request, body.organization_id)
    key = idempotency_asked(request)
    context = body.context or Context()
    return Order(
        service=request.path_params["service_id"],
        text=text,
        flavor=body.flavor_id or body.flavor_name,
        organization=organization,
        everyone=sees_everything(request, organization),
        file_name=file_name,
        extras=Extras(instructions=body.instructions or "", language=body.language),
        priority=body.priority,
        metadata=body.metadata or {},
        webhook_url=body.webhook_url,
        tags=tuple(tag.model_dump() for tag in context.tags),
        allow_new_tags=context.allow_new_tags,
        idempotency_key=key,
        body_digest=None if key is None else await digest(),
        **of_exchange(exchange_of(request)),
    )


def of_exchange(exchange: Exchange) -> dict[str, Any]:
    """Give what an order says of the request it came with."""
    return {"caller": exchange.caller, "request_id": exchange.id, "trace": traceparent_of(exchange)}


def traceparent_of(exchange: Exchange) -> str | None:
    """Name the request's span, so that the job's can be linked to it."""
    trace = exchange.trace
    return None if trace is None else write_traceparent(trace.trace_id, trace.span_id, sampled=trace.sampled)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def _form(request: Request) -> FormData:
    try:
        parser = MultiPartParser(
            _in_utf8(request.headers),
            _pieces(content_of(request)),
            max_files=1,
            max_fields=_MOST_FIELDS,
            max_part_size=_LONGEST_FIELD_BYTES,
        )
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        # A form without its boundary is a KeyError there.
        message = error.message if isinstance(error, MultiPartException) else "its boundary is missing or wrong"
        raise unprocessable([(("body",), f"the form cannot be read: {message}")]) from None


def _in_utf8(headers: Headers) -> Headers:
    """Leave out in which encoding a form says that it is: Python knows some that take minutes for a megabyte."""
    _, parameters = parse_options_header(headers.get("content-type", ""))
    boundary = parameters[b"boundary"].decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})


async def _pieces(content: bytes) -> AsyncGenerator[bytes]:
    yield content


def _decoded(field: str, text: str) -> Any:
    if field not in _JSON_FIELDS:
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise unprocessable([(("body", field), "must be JSON, in this field of the form")]) from None


async def _apart(work: Callable[[], Any], size: int) -> Any:
    return work() if size <= _INLINE_CHARS else await asyncio.to_thread(work)


async def _digest_of_form(told: bytes, content: bytes) -> str:
    return hashlib.sha256(told + (await digest_of(content)).encode()).hexdigest()
