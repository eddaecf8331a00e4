"""Reads a chat request as a document for a service: texts and files of the user, instructions of the system."""

import base64
import binascii
import hashlib
import re
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from llmgateway.documents.readers.reading import read, read_text
from llmgateway.documents.recipe import Extras
from llmgateway.errors import InvalidRequestError, NotFoundError
from llmgateway.exchange import Call, Exchange
from llmgateway.jobs.order import Order
from llmgateway.jobs.recipes import no_documents
from llmgateway.wire.codec import decode

PREFIX = "service/"

_BLANK_LINE = "\n\n"
_INLINE = re.compile(r"data:(?P<type>[\w.+/-]*)(?P<more>(?:;[\w.+=-]+)*?)(?P<base64>;base64)?,", re.IGNORECASE)
_LONGEST_TYPE = 200
_MOST_METADATA_BYTES = 16 * 1024
_ORGANIZATION = re.compile(r"[A-Za-z0-9._-]{1,128}")


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(Struct):
    type: str
    text: str | None = None
    file: _File | None = None


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None


class _Tag(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    description: Annotated[str, Meta(max_length=4000)] = ""
    category: Annotated[str, Meta(max_length=200)] | None = None


class _Service(Struct, forbid_unknown_fields=True):
    """The body's field `service`, which no model of a provider has."""

    flavor: str | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None
    tags: Annotated[list[_Tag], Meta(max_length=1000)] = []
    allow_new_tags: bool = False
    output: dict[str, Any] = {}
    language: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    cancel_on_disconnect: bool = False


class _Body(Struct):
    messages: list[_Message]
    metadata: dict[str, Any] | None = None
    service: _Service | None = None


_DECODER = msgspec.json.Decoder(_Body)


class Asked(Struct, frozen=True):
    """An order, and what is to become of its job when whoever ordered it leaves."""

    order: Order
    cancel_on_disconnect: bool


def read_order(exchange: Exchange, call: Call) -> Asked:
    """Read a call of a virtual model. Blocks for as long as its files take to be read.

    Raises:
        InvalidRequestError, DocumentError: It holds no document, or one that cannot be read.
        PermissionDeniedError: A provider's own key asks, which is for model calls alone.
        NotFoundError: It names somebody else's organization.
    """
    if exchange.caller.kind == "provider":
        raise no_documents()
    if call.operation != "chat":
        raise InvalidRequestError(
            f"`{call.model[:200]}` is a document service: POST /v1/chat/completions with the document as a user "
            "message.",
            param="model",
        )
    body = decode(_DECODER, call.body)
    route, _, flavor = call.model.removeprefix(PREFIX).partition(":")
    options, metadata = body.service or _Service(), _texts_of(body.metadata)
    documents = [text for message in body.messages if message.role == "user" for text in _documents(message)]
    instructions = [_text(message) for message in body.messages if message.role in {"system", "developer"}]
    organization = _organization(exchange, metadata.pop("organization_id", None))
    order = Order(
        service=route,
        flavor=flavor or options.flavor or metadata.pop("flavor", None),
        text=_BLANK_LINE.join(filter(None, documents)),
        caller=exchange.caller,
        organization=organization,
        everyone=exchange.caller.kind == "admin" and organization is None,
        extras=Extras(instructions=_BLANK_LINE.join(filter(None, instructions)), language=options.language),
        priority=options.priority if options.priority is not None else _priority(metadata.pop("priority", None)),
        metadata=metadata,
        tags=tuple(msgspec.to_builtins(tag) for tag in options.tags),
        allow_new_tags=options.allow_new_tags,
        request_id=exchange.id,
        max_cost_usd=None if exchange.route_ask is None else exchange.route_ask.max_cost_usd,
    )
    cancels = options.cancel_on_disconnect
    return Asked(msgspec.structs.replace(order, **_names_of(exchange, order, cancels=cancels)), cancels)


def _names_of(exchange: Exchange, order: Order, *, cancels: bool) -> dict[str, Any]:
    """Give the digests under which the same order is found again: whether it streams makes no difference.

    Args:
        cancels: Whether its job ends when whoever ordered it leaves: nobody else is to wait for such a one.
    """
    ordered = (order.service, order.flavor, order.extras, order.priority, order.tags, order.allow_new_tags)
    kept = (*ordered, order.metadata, cancels, order.max_cost_usd)
    digest = hashlib.sha256(msgspec.json.encode(kept))
    digest.update(order.text.encode(errors="surrogatepass"))
    found: dict[str, Any] = {"joins": digest.hexdigest(), "body_digest": digest.hexdigest()}
    if exchange.idempotency_key is not None:
        found["idempotency_key"] = f"{exchange.path} {exchange.idempotency_key}"
    if exchange.trace is not None:
        found["trace"] = f"00-{exchange.trace.trace_id:032x}-{exchange.trace.span_id:016x}-{exchange.trace.sampled:02x}"
    return found


def _documents(message: _Message) -> list[str]:
    if message.content is None or isinstance(message.content, str):
        return [_read_text(message.content)] if message.content else []
    return [_document(part) for part in message.content]


def _document(part: _Part) -> str:
    if part.type == "text" and part.text is not None:
        return _read_text(part.text)
    if part.type == "file" and part.file is not None:
        return _read(part.file)
    raise InvalidRequestError(
        f"A document service reads parts of the types `text` and `file`, not `{part.type[:_LONGEST_TYPE]}`.",
        param="messages",
    )


def _read_text(text: str) -> str:
    # One part may be empty; whether there is any text at all is seen when all are together.
    return read_text(text).text if text.strip() else ""


def _read(file: _File) -> str:
    if file.file_data is None:
        raise InvalidRequestError(
            "Files are not kept here: send the file itself as `file_data`, a data URI.", param="messages"
        )
    media_type, content = _decoded(file.file_data)
    return read(content, file_name=file.filename, media_type=media_type).text


def _decoded(uri: str) -> tuple[str | None, bytes]:
    found = _INLINE.match(uri)
    try:
        if found is None:  # OpenAI's own API takes bare base64 as well
            return None, base64.b64decode(uri, validate=True)
        rest = uri[found.end() :]
        return found["type"] or None, base64.b64decode(rest) if found["base64"] else unquote_to_bytes(rest)
    except (ValueError, binascii.Error):
        raise InvalidRequestError(
            "`file_data` must be a data URI such as `data:text/plain;base64,…`.", param="messages"
        ) from None


def _text(message: _Message) -> str:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return _BLANK_LINE.join(part.text for part in content if part.text)


def _texts_of(metadata: dict[str, Any] | None) -> dict[str, str]:
    if metadata is None:
        return {}
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise InvalidRequestError("`metadata` takes texts as values.", param=f"metadata.{name[:64]}")
    if (size_bytes := len(msgspec.json.encode(metadata))) > _MOST_METADATA_BYTES:
        raise InvalidRequestError(
            f"`metadata` is {size_bytes} bytes of JSON, and {_MOST_METADATA_BYTES} is the most.",
            param="metadata",
        )
    return dict(metadata)


def _priority(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) == 1 and text.isascii() and text.isdecimal():
        return int(text)
    raise InvalidRequestError("`metadata.priority` must be 0 (urgent) to 9 (background).", param="metadata.priority")


def _organization(exchange: Exchange, named: str | None) -> str | None:
    """Believe a name as the header's is believed."""
    if named is None or named == exchange.organization:
        return exchange.organization
    if exchange.organization is None and exchange.caller.kind in _BELIEVED and _ORGANIZATION.fullmatch(named):
        return named
    shown = named if _ORGANIZATION.fullmatch(named) else "…"
    if exchange.caller.kind not in _BELIEVED:
        raise NotFoundError(
            f"No organization `{shown}` is known here, or it is not yours. Leave it out.",
            param="metadata.organization_id",
        )
    raise InvalidRequestError(
        f"`metadata.organization_id` is `{shown}`: it must be 1 to 128 of A-Z a-z 0-9 . _ - and the one that "
        "X-Organization-ID names, if it names any.",
        param="metadata.organization_id",
    )


_BELIEVED: frozenset[Literal["anyone", "admin"]] = frozenset({"anyone", "admin"})
