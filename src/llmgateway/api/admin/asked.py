"""What administrators ask, checked: bodies, places in lists, times. Every fault says what would be right."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request

from llmgateway.api.ledger.asking import known_only, short
from llmgateway.caller import Budget
from llmgateway.catalog.check import worded, written
from llmgateway.catalog.model import Limits
from llmgateway.catalog.schema import Tier
from llmgateway.errors import (
    ClientGoneError,
    InvalidJSONError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
)
from llmgateway.exchange import Exchange
from llmgateway.storage.admin.rows import Deed

MAX_BYTES = 1024 * 1024
_BODY_LIMIT_S = 30.0
_PAGE_SIZE, _LARGEST_PAGE = 50, 100
_MOST_DIGITS = 9
# OpenAI's bounds of `metadata`.
_MOST_METADATA = 16

Asked = TypeVar("Asked", bound="Body")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable, on one line")
    return text


Line = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=_MOST_METADATA)
]


class Body(BaseModel):
    """A request's body: immutable, strict about its types and names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @property
    def named(self) -> frozenset[str]:
        """The fields that were sent; what was not sent stays as it is."""
        return frozenset(self.model_fields_set)


class BudgetBody(Body):
    """Money in a period."""

    usd: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    period: Literal["day", "week", "month", "total"] = "month"
    soft_usd: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None


def limits_asked(tier: Tier | None) -> Limits | None:
    """Make limits of what a body says; none at all are no limits of one's own."""
    limits = None if tier is None else Limits(**tier.model_dump())
    return None if limits == Limits() else limits


def budget_asked(body: BudgetBody | None) -> Budget | None:
    """Make a budget of what a body says.

    Raises:
        InvalidRequestError: Its soft limit would never come.
    """
    if body is None:
        return None
    if body.soft_usd is not None and body.soft_usd > body.usd:
        raise InvalidRequestError(
            "`budget.soft_usd` is above `budget.usd`: alerts come at the soft limit, and calls end at the hard one.",
            param="budget.soft_usd",
        )
    return Budget(body.usd, body.period, body.soft_usd)


def admin_only(request: Request) -> Exchange:
    """Give the exchange of an administrator.

    Raises:
        PermissionDeniedError: It is somebody else's, and should never have come this far.
    """
    exchange: Exchange = request.scope["exchange"]
    if exchange.caller.kind != "admin":
        raise PermissionDeniedError("This needs the admin key.", code="admin_required")
    return exchange


def deed(
    request: Request,
    action: str,
    subject: str,
    *,
    organization_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Deed:
    """Say who does what, for the audit log; `details` hold no secret."""
    actor = admin_only(request).caller.key_id or "admin"
    return Deed(actor=actor, action=action, subject=subject, organization_id=organization_id, details=details or {})


async def text_asked(request: Request) -> bytes:
    """Read a body whole.

    Raises:
        RequestTooLargeError: It is longer than an administrator's request ever is.
        InvalidRequestError: It did not come in time.
        ClientGoneError: Its sender went away.
    """
    pieces = bytearray()
    try:
        async with asyncio.timeout(_BODY_LIMIT_S):
            async for piece in request.stream():
                pieces += piece
                if len(pieces) > MAX_BYTES:
                    raise RequestTooLargeError(f"The body is larger than {MAX_BYTES} bytes: send less.")
    except TimeoutError:
        raise InvalidRequestError(f"The body was not complete within {_BODY_LIMIT_S:g} s.") from None
    except ClientDisconnect:
        raise ClientGoneError("The client closed the connection before its body was complete.") from None
    return bytes(pieces)


async def body_asked(request: Request, kind: type[Asked]) -> Asked:
    """Read a JSON body; an empty one is an empty object.

    Raises:
        InvalidRequestError: With the field's path and what would be right; further faults are in the details.
    """
    admin_only(request)
    return checked(await text_asked(request) or b"{}", kind)


def checked(content: bytes, kind: type[Asked]) -> Asked:
    """Hold JSON against what it should be. Raises: InvalidRequestError."""
    try:
        return kind.model_validate_json(content, strict=True)
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
    told = [f"`{written(path)}`: {message.removeprefix('value error, ')}" for path, message in faults]
    details = {"faults": told} if len(told) > 1 else None
    return InvalidRequestError(f"{told[0]}.", param=written(faults[0][0]), details=details)


def page_asked(request: Request, known: Sequence[str] = ()) -> tuple[int, int]:
    """Give which page is asked for, from 1, and how long it is.

    Args:
        known: What else may be asked there.

    Raises:
        InvalidRequestError: Another parameter was sent, or one that is no such number.
    """
    known_only(request, (*known, "page", "page_size"))
    page = _whole(request, "page", 1, 10**_MOST_DIGITS)
    return page, _whole(request, "page_size", _PAGE_SIZE, _LARGEST_PAGE)


def _whole(request: Request, name: str, otherwise: int, most: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return otherwise
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else 0
    if not 1 <= number <= most:
        raise InvalidRequestError(f"`{name}` is {short(text)}: write a whole number from 1 to {most}.", param=name)
    return number


def text_in_query(request: Request, name: str) -> str | None:
    """Give a parameter, if one was sent that says something. Raises: InvalidRequestError."""
    text = request.query_params.get(name)
    if text and not (text.isprintable() and len(text) <= 256):  # noqa: PLR2004  as long as any id
        raise InvalidRequestError(f"`{name}` is {short(text)}: it must be printable and short.", param=name)
    return text or None
