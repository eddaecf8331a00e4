"""JSON in: bytes to typed values, with errors that name the field by its path."""

import codecs
import re
from typing import TypeVar

import msgspec

from llmgateway.errors import InvalidJSONError, InvalidRequestError

# Only at the start: the reason may quote the client, and it may write what it likes.
_FIELD = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_MAX_REASON_CHARS = 200
_PART_BYTES = 256 * 1024
# Above this, to look at every byte once more costs more than to remember what was found.
LONG_BYTES = 8 * 1024

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]

FIELDS = msgspec.json.Decoder(Fields)


class TopFields:
    """Finds a long body's fields once, for all who want them."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: tuple[bytes, Fields] | None = None

    def of(self, body: bytes) -> Fields:
        """Give them to do with as one likes; the values are parts of the body. Raises: msgspec.DecodeError."""
        found = self._found
        # By identity: a layer may have put another body into the call.
        if found is None or found[0] is not body:
            found = self._found = (body, FIELDS.decode(body))
        return dict(found[1])


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a client's JSON.

    Raises:
        InvalidJSONError: Not JSON, not UTF-8, or nested deeper than any request needs to be.
        InvalidRequestError: JSON with a wrong or missing field; `param` is its path.
    """
    try:
        # The decoder skips over fields it was not asked for without looking at their text.
        if not body.isascii():
            check_text(body)
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise InvalidJSONError("The body is nested too deeply: send at most a few hundred levels.") from None
    except msgspec.DecodeError as error:
        raise InvalidJSONError(f"The body is not valid JSON: {error}.") from None


def check_text(body: bytes) -> None:
    """Read it part by part, which holds up others for no more than a part. Raises: InvalidJSONError: Not UTF-8."""
    at, length, view = 0, len(body), memoryview(body)
    while at < length:
        end = at + _PART_BYTES
        try:
            # A character that is cut by the end of a part is left to the next one.
            at += codecs.utf_8_decode(view[at:end], "strict", end >= length)[1]
        except UnicodeDecodeError as error:
            raise InvalidJSONError(
                f"The body is not valid UTF-8 (byte {at + error.start}): send JSON encoded as UTF-8."
            ) from None


# What would be right, for the fields people get wrong most, by the last part of the path.
_RIGHT = {
    "model": "name a model from GET /v1/models",
    "messages": "send a list with at least one message",
    "role": "use system, developer, user, assistant, tool or function",
    "content": "send a text or a list of parts",
    "type": "say what the part is: text, image_url, input_audio or file",
    "prompt": "send a text, a list of texts or token ids",
    "input": "send a text, a list of texts or token ids",
    "stream": "send true or false",
}


def _invalid(text: str) -> InvalidRequestError:
    # The last one: a value that the reason quotes may look like a path.
    reason, _, place = text.rpartition(" - at `$")
    path = place.removesuffix("`").removeprefix(".") if reason else ""
    reason = (reason or text)[:_MAX_REASON_CHARS]
    missing = _FIELD.match(reason)
    param = ".".join(part for part in (path, missing["field"] if missing else "") if part)
    if not param:
        return InvalidJSONError(f"The body must be a JSON object: {reason[:1].lower()}{reason[1:]}.")
    right = _RIGHT.get(re.sub(r"\[\d+\]$", "", param.rpartition(".")[2]))
    advice = f"; {right}" if right else ""
    return InvalidRequestError(f"`{param}`: {reason[:1].lower()}{reason[1:]}{advice}.", param=param)


def holds(body: bytes, mark: bytes) -> bool:
    """Whether a mark stands anywhere in JSON that nobody has parsed."""
    # From the end: that search skips what cannot be the mark, and takes a half or a fourth of the time. Not `in`: that
    # first makes an error which says that a mark is no number, and costs more than the search.
    if len(body) <= _PART_BYTES:
        return body.rfind(mark) >= 0
    # A search holds the interpreter's lock until it ends: of a long body one part is searched after the other, so that
    # in a thread it lets others have their turns. The mark may stand across the end of a part.
    more = _PART_BYTES + len(mark) - 1
    return any(body.rfind(mark, at, at + more) >= 0 for at in range(0, len(body), _PART_BYTES))
