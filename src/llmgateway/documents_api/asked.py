"""What is asked of document services, checked: bodies, pages, whose things are meant. Faults say what is right."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from llmgateway.catalog.check import worded, written
from llmgateway.errors import (
    ConflictError,
    InvalidJSONError,
    InvalidRequestError,
    NotFoundError,
    UnprocessableError,
)
from llmgateway.exchange import Exchange
from llmgateway.jobs import asking
from llmgateway.storage.admin.outcomes import TakenError
from llmgateway.storage.jobs.rows import Status, Wanted

_PAGE_SIZE, _LARGEST_PAGE = 50, 100
_MOST_DIGITS = 9
_LONGEST_SHOWN = 100
_LONGEST_KEY = 255
# Below this a hash takes less than a thread costs.
_INLINE_BYTES = 256 * 1024
_ORGANIZATION = re.compile(r"[A-Za-z0-9._-]{1,128}")

Asked = TypeVar("Asked", bound=BaseModel)
Answer = TypeVar("Answer")


class Body(BaseModel):
    """A request's body: immutable, strict about its types and names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @property
    def named(self) -> frozenset[str]:
        """The fields that were sent; what was not sent stays as it is."""
        return frozenset(self.model_fields_set)


def exchange_of(request: Request) -> Exchange:
    """Give the exchange that a request is on."""
    exchange: Exchange = request.scope["exchange"]
    return exchange


def content_of(request: Request) -> bytes:
    """Give the body, which was read before (middleware/body)."""
    content: bytes = request.scope.get("body", b"")
    return content


def body_asked(request: Request, kind: type[Asked]) -> Asked:
    """Read a JSON body; an empty one is an empty object.

    Raises:
        InvalidJSONError: It is not JSON, or not an object.
        UnprocessableError: With each field that is wrong and what would be right.
    """
    return checked(content_of(request) or b"{}", kind)


async def large_body_asked(request: Request, kind: type[Asked]) -> Asked:
    """Read a JSON body that may hold a whole document: a large one not on the event loop. Raises: as `body_asked`."""
    if len(content_of(request)) <= _INLINE_BYTES:
        return body_asked(request, kind)
    return await asyncio.to_thread(body_asked, request, kind)


def checked(content: bytes, kind: type[Asked]) -> Asked:
    """Hold JSON against what it should be. Raises: as `body_asked`."""
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise refusal(error, kind) from None


def checked_fields(fields: dict[str, Any], kind: type[Asked]) -> Asked:
    """Hold the fields of a form against what they should be; they are texts, and numbers are read out of them.

    Raises:
        UnprocessableError: With each field that is wrong and what would be right.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, kind) from None


def refusal(error: ValidationError, kind: type[BaseModel]) -> InvalidRequestError:
    """Say what is wrong with a body, the first fault first."""
    raw = error.errors(include_url=False, include_input=False, include_context=False)
    if raw[0]["type"] == "json_invalid":
        return InvalidJSONError(f"The body is not JSON: {raw[0]['msg'].partition(': ')[2] or 'it cannot be read'}.")
    faults = [worded(fault, kind, "field") for fault in raw]
    if not faults[0][0]:
        return InvalidJSONError("The body must be a JSON object.")
    return unprocessable([(("body", *path), message.removeprefix("value error, ")) for path, message in faults])


def unprocessable(faults: Sequence[tuple[Sequence[str | int], str]]) -> UnprocessableError:
    """Make the error of fields that are wrong.

    Args:
        faults: Where each is, beginning with `body`, `query` or `header`, and what would be right.
    """
    first, message = faults[0]
    where = written(tuple(first[1:]))
    errors = [{"loc": list(path), "msg": told} for path, told in faults]
    return UnprocessableError(f"`{where}`: {message}.", param=where, details={"errors": errors})


def known_only(request: Request, known: Collection[str]) -> None:
    """Refuse parameters that nobody reads: a misspelt one would answer another question than was asked.

    Raises:
        UnprocessableError: With the names there are.
    """
    faults = [
        (("query", name[:_LONGEST_SHOWN]), f"there is no such parameter; there are: {', '.join(known) or 'none'}")
        for name in request.query_params
        if name not in known
    ]
    if faults:
        raise unprocessable(faults)


def page_asked(request: Request, known: Sequence[str] = ()) -> tuple[int, int]:
    """Give which page is asked for, from 1, and how long it is.

    Args:
        known: What else may be asked there.

    Raises:
        UnprocessableError: Another parameter was sent, or one that is no such number.
    """
    known_only(request, (*known, "page", "page_size"))
    return _whole(request, "page", 1, 10**_MOST_DIGITS), _whole(request, "page_size", _PAGE_SIZE, _LARGEST_PAGE)


def _whole(request: Request, name: str, otherwise: int, most: int) -> int:
    text = request.query_params.get(name)
    return whole_number(text, ("query", name), most) if text else otherwise


def whole_number(text: str, where: Sequence[str], most: int, least: int = 1) -> int:
    """Read a whole number. Raises: UnprocessableError."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else -1
    if not least <= number <= most:
        raise unprocessable([(where, f"is {short(text)}: write a whole number from {least} to {most}")])
    return number


def one_of(request: Request, name: str, known: Sequence[str], otherwise: str | None = None) -> str | None:
    """Give a parameter that is one of some words. Raises: UnprocessableError."""
    text = request.query_params.get(name)
    if not text:
        return otherwise
    if text not in known:
        raise unprocessable([(("query", name), f"is {short(text)}: write one of {', '.join(known)}")])
    return text


def text_in_query(request: Request, name: str) -> str | None:
    """Give a parameter, if one was sent that says something. Raises: UnprocessableError."""
    text = request.query_params.get(name)
    if text and not (text.isprintable() and len(text) <= 256):  # noqa: PLR2004  as long as any id
        raise unprocessable([(("query", name), f"is {short(text)}: it must be printable and short")])
    return text or None


def short(text: str) -> str:
    """Quote what a client sent, without repeating a megabyte of it."""
    return f"`{text if len(text) <= _LONGEST_SHOWN else f'{text[:_LONGEST_SHOWN]}…'}`"


def organization_asked(request: Request, named: str | None = None, where: str = "body") -> str | None:
    """Give the organization that is meant: what a body or a query names is believed only of those who may act for any.

    Raises:
        NotFoundError: It is not the caller's own: the same text as for one that there is not.
        UnprocessableError: It is no name of one, or another than `X-Organization-ID` names.
    """
    exchange = exchange_of(request)
    caller = exchange.caller
    if named is None:
        _refuse_unread_header(request, exchange)
        return exchange.organization
    is_name = _ORGANIZATION.fullmatch(named) is not None
    if caller.kind not in {"anyone", "admin"}:
        if named != exchange.organization:
            raise NotFoundError(
                f"No organization `{named if is_name else '…'}` is known here, or it is not yours.",
                param="organization_id",
            )
        return named
    if not is_name:
        raise unprocessable([((where, "organization_id"), "write 1 to 128 of A-Z a-z 0-9 . _ -")])
    if exchange.organization not in {None, named}:
        raise unprocessable([((where, "organization_id"), "names another organization than X-Organization-ID does")])
    return named


def _refuse_unread_header(request: Request, exchange: Exchange) -> None:
    # In auth mode none a name that is none counts as none for calls of models; a job would be everybody's then.
    if exchange.organization is None and "x-organization-id" in request.headers:
        raise unprocessable([(("header", "X-Organization-ID"), "write 1 to 128 of A-Z a-z 0-9 . _ -")])


def sees_everything(request: Request, organization: str | None) -> bool:
    """Whether things of all organizations are meant: an administrator's request that names none."""
    return organization is None and exchange_of(request).caller.kind == "admin"


def wanted_of(
    request: Request,
    *,
    organization_id: str | None = None,
    status: Status | None = None,
    service_id: str | None = None,
) -> Wanted:
    """Say which jobs whoever asks may see.

    Those of an organization are seen by all its keys; of callers without one, each key sees its own.

    Args:
        organization_id: As a query names it.

    Raises:
        NotFoundError: It names somebody else's organization.
        UnprocessableError: It is no name of one.
    """
    caller = exchange_of(request).caller
    organization = organization_asked(request, organization_id, "query")
    own = organization is None and caller.kind not in {"anyone", "admin"}
    return Wanted(
        organization_id=organization,
        everyone=sees_everything(request, organization),
        status=status,
        service_id=service_id,
        key_id=caller.key_id if own else None,
    )


def idempotency_asked(request: Request) -> str | None:
    """Give the request's `Idempotency-Key` with the path it holds for. Raises: UnprocessableError."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
        raise unprocessable(
            [(("header", "Idempotency-Key"), f"must be 1 to {_LONGEST_KEY} printable characters, such as a UUID")]
        )
    return f"{exchange_of(request).path or request.url.path} {key}"


async def digest_of(content: bytes) -> str:
    """Tell one body from another."""
    if len(content) > _INLINE_BYTES:
        return (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
    return hashlib.sha256(content).hexdigest()


async def in_time(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask the database, or change something there.

    Raises:
        LedgerAwayError: It is away, or too slow.
        ConflictError: There is one of that id or name already.
        InvalidRequestError: It cannot keep such a text.
    """

    async def unless_taken() -> Answer:
        try:
            return await question()
        except TakenError:
            raise ConflictError(
                "There is one of that id or name already: choose another, or change that one with PATCH.",
                code="already_exists",
            ) from None

    return await asking.in_time(unless_taken)
