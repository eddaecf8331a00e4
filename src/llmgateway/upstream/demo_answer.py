"""What the demo models say: an OpenAI request in, the answer's text in pieces out. No clock, no network."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from llmgateway.errors import InvalidRequestError, UnsupportedParameterError
from llmgateway.upstream.demo_summary import summarize

_MAX_CHOICES = 8
_MAX_STOPS = 4
# Tokens per message that chat formats add around its text, as OpenAI's cookbook counts them.
_MESSAGE_TOKENS = 3
_OPENS, _CLOSES = "<document>", "</document>"
# One piece stands for one token: up to six characters of a word with the space before it, or one ideograph; what
# joins on (accents, skin tones, the joiner of emoji) is not torn off.
_PIECE = re.compile(
    r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]{1,6})"
    r"[\u0300-\u036f\u200d\ufe0f\U0001f3fb-\U0001f3ff]*|\s+"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it is put on the wire.

    Args:
        choices: Texts in pieces, one list a choice; a piece counts as one token.
        finish_reasons: One a choice: `stop`, or `length` when the limit on tokens cut it.
    """

    choices: list[list[str]]
    finish_reasons: list[str]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """Tokens of all choices together."""
        return sum(len(pieces) for pieces in self.choices)


def answer_chat(body: dict[str, Any], model: str, *, drop_unsupported: bool) -> Answer:
    """Answer a chat request: `echo` gives the last user message back, `summary` sums up all user messages.

    `response_format: json_object` wraps the text in an object. Offered tools are never called.

    Raises:
        InvalidRequestError: A field has a value that OpenAI's API does not take, or there is no text.
        UnsupportedParameterError: A demo model cannot do it and the catalog does not drop it.
    """
    if not drop_unsupported:
        _refuse_unsupported(body)
    messages = _messages(body.get("messages"))
    asked = [text for role, text in messages if role == "user"]
    if not asked:
        raise InvalidRequestError("`messages` needs one message of the role `user` with text.", param="messages")
    text = _reply("\n\n".join(asked) if model == "summary" else asked[-1], model, param="messages")
    response_format = body.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_object":
        text = msgspec.json.encode({model: text}).decode()
    prompt_tokens = sum(count_tokens(text) + _MESSAGE_TOKENS for _, text in messages)
    return _limited([text], body, prompt_tokens)


def answer_completion(body: dict[str, Any], model: str, *, drop_unsupported: bool) -> Answer:
    """Answer a legacy completion: the prompt, or its summary; an array of prompts gives one choice each.

    Raises:
        InvalidRequestError: As for chat.
        UnsupportedParameterError: As for chat; also for prompts of tokens.
    """
    if not drop_unsupported:
        _refuse_unsupported(body)
    prompts = _prompts(body.get("prompt"))
    replies = [_reply(prompt, model, param="prompt") for prompt in prompts]
    if body.get("echo"):
        replies = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
    return _limited(replies, body, sum(map(count_tokens, prompts)))


def split_pieces(text: str) -> list[str]:
    """Cut a text into pieces that join to it again; the estimate of its tokens."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text: exact for nobody's tokenizer, the same for the same text."""
    return len(split_pieces(text))


def _reply(text: str, model: str, *, param: str) -> str:
    if not text.strip():
        raise InvalidRequestError(f"`{param}` holds no text to answer.", param=param)
    return summarize(_document_in(text)) if model == "summary" else text


def _document_in(text: str) -> str:
    """Give what stands between the marks that prompts put around a document: what is around it is not summed up."""
    start = text.find(_OPENS)
    end = text.rfind(_CLOSES)
    inside = text[start + len(_OPENS) : end] if 0 <= start < end else ""
    return inside if inside.strip() else text


def _refuse_unsupported(body: dict[str, Any]) -> None:
    response_format = body.get("response_format")
    asked = {
        "tool_choice": body.get("tool_choice") not in (None, "none", "auto"),
        "response_format": isinstance(response_format, dict) and response_format.get("type") == "json_schema",
        "logprobs": body.get("logprobs") not in (None, False),
        "audio": body.get("audio") is not None,
        "suffix": body.get("suffix") is not None,
    }
    for param, is_asked in asked.items():
        if is_asked:
            raise UnsupportedParameterError(
                f"The demo models cannot do what `{param}` asks for; leave it out or name a model of a provider.",
                param=param,
            )


def _messages(value: Any) -> list[tuple[str, str]]:
    """Read `(role, text)` of each message."""
    if not isinstance(value, list) or not value:
        raise InvalidRequestError("`messages` must be an array with at least one message.", param="messages")
    messages = []
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            param = f"messages[{index}]"
            raise InvalidRequestError(f"`{param}` must be an object with `role` and `content`.", param=param)
        messages.append((message["role"], _text(message.get("content"), f"messages[{index}].content")))
    return messages


def _text(content: Any, param: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise InvalidRequestError(f"`{param}` must be a text or an array of parts.", param=param)
    texts = []
    for index, part in enumerate(content):
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        if not isinstance(text, str):
            path = f"{param}[{index}]"
            raise UnsupportedParameterError(f"The demo models read text only; `{path}` is no text part.", param=path)
        texts.append(text)
    return "\n".join(texts)


def _prompts(value: Any) -> list[str]:
    prompts = [value] if isinstance(value, str) else value
    if not isinstance(prompts, list) or not prompts:
        raise InvalidRequestError("`prompt` must be a text or an array of texts.", param="prompt")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise UnsupportedParameterError("The demo models take prompts as text, not as tokens.", param="prompt")
    return prompts


def _limited(texts: list[str], body: dict[str, Any], prompt_tokens: int) -> Answer:
    """Apply `stop`, the limit on tokens and `n`."""
    stops = _stops(body.get("stop"))
    limit = _whole(body, "max_completion_tokens") or _whole(body, "max_tokens")
    wanted = _whole(body, "n", most=_MAX_CHOICES) or 1
    choices, finish_reasons = [], []
    for text in texts:
        pieces = split_pieces(_before(text, stops))
        cut = limit is not None and len(pieces) > limit
        choices += [pieces[:limit] if cut else pieces] * wanted
        finish_reasons += ["length" if cut else "stop"] * wanted
    return Answer(choices, finish_reasons, prompt_tokens)


def _before(text: str, stops: list[str]) -> str:
    return text[: min((at for stop in stops if (at := text.find(stop)) != -1), default=len(text))]


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise InvalidRequestError(f"`stop` must be a text or an array of up to {_MAX_STOPS} texts.", param="stop")
    return stops


def _whole(body: dict[str, Any], param: str, *, most: int | None = None) -> int | None:
    value = body.get(param)
    if value is None:
        return None
    if type(value) is not int or value < 1 or (most is not None and value > most):
        bounds = "of at least 1" if most is None else f"from 1 to {most}"
        raise InvalidRequestError(f"`{param}` must be a whole number {bounds}.", param=param)
    return value
