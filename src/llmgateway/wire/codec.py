"""JSON in: bytes to typed values, with errors that name the field by its path."""

import re
from typing import TypeVar

import msgspec

from llmgateway.errors import InvalidJSONError, InvalidRequestError

_PATH = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|unknown) field `(?P<field>[^`]+)`")


T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a client's JSON.

    Raises:
        InvalidJSONError: Not JSON, not UTF-8, or nested deeper than any request needs to be.
        InvalidRequestError: JSON with a wrong or missing field; `param` is its path.
    """
    try:
        # The decoder skips over fields it was not asked for without looking at their text.
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise InvalidJSONError("The body is nested too deeply: send at most a few hundred levels.") from None
    except UnicodeDecodeError as error:
        raise InvalidJSONError(
            f"The body is not valid UTF-8 (byte {error.start}): send JSON encoded as UTF-8."
        ) from None
    except msgspec.DecodeError as error:
        raise InvalidJSONError(f"The body is not valid JSON: {error}.") from None


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
    match = _PATH.match(text)
    reason, path = (match["reason"], match["path"] or "") if match else (text, "")
    missing = _FIELD.search(reason)
    param = ".".join(part for part in (path, missing["field"] if missing else "") if part)
    if not param:
        return InvalidJSONError(f"The body must be a JSON object: {reason[:1].lower()}{reason[1:]}.")
    right = _RIGHT.get(re.sub(r"\[\d+\]$", "", param.rpartition(".")[2]))
    advice = f"; {right}" if right else ""
    return InvalidRequestError(f"`{param}`: {reason[:1].lower()}{reason[1:]}{advice}.", param=param)
