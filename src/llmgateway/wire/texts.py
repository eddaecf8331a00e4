"""The texts within requests and answers, for counting what an upstream did not tell."""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

from llmgateway.wire.media import tokens_of_part

# How to count tokens with tiktoken (OpenAI cookbook): each message, its role, its name, and the start of the answer.
_MESSAGE_TOKENS = 3
_ROLE_TOKENS = 1
_NAME_TOKENS = 1
_ANSWER_TOKENS = 3

_STRING = rb'":\s?"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
# A pattern that begins with plain letters is searched for twice as fast; it also takes `reasoning_content`.
_CONTENT = re.compile(rb'content":\s?"([^"\\]++(?:\\.[^"\\]*+)*+|(?:\\.[^"\\]*+)++)"')
_CHAT = re.compile(rb'"(?:content|reasoning_content|reasoning|refusal|arguments)' + _STRING)
_COMPLETION = re.compile(rb'"text' + _STRING)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Prompt(Struct):
    """What a request asks.

    Args:
        texts: Each is counted by itself.
        further_tokens: What is counted without a text: the frame of messages, images, ids of tokens.
        is_rough: Whether something counts by a rule: images and their like, and what providers write into the prompt in
            a form of their own (tools, a schema of the answer).
    """

    texts: list[str]
    further_tokens: int = 0
    is_rough: bool = False


def text_of_request(operation: Literal["chat", "completion", "embedding"], body: bytes) -> Prompt:
    """Give what a request asks; nothing of a body that is no JSON object."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except _UNREADABLE:
        return Prompt([])
    if operation == "chat":
        return _chat(fields)
    prompt = Prompt([])
    _add_input(prompt, fields.get("prompt" if operation == "completion" else "input"))
    return prompt


def text_of_answer(body: bytes) -> str:
    """Give all text, reasoning and arguments of tool calls in a whole answer; empty when it is none."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except _UNREADABLE:
        return ""
    choices = fields.get("choices")
    return "".join(_said(choice) for choice in choices if isinstance(choice, dict)) if isinstance(choices, list) else ""


def strings_of_events(raw: bytes) -> bytes:
    """Give what a stream's events say, still escaped as JSON has it; a search takes a fraction of what parsing does.

    Most events hold one piece of content and nothing else; only where fewer were found is the rest looked for.
    """
    found = _CONTENT.findall(raw)
    if len(found) < raw.count(b"data:"):
        found = (_CHAT if b'"delta"' in raw else _COMPLETION).findall(raw)
    return b"".join(found)


def unescaped(strings: bytes) -> str:
    """Read the inside of a JSON string; one that is broken is given as it is."""
    try:
        return msgspec.json.decode(b'"%b"' % strings, type=str)
    except _UNREADABLE:
        return strings.decode(errors="replace")


def text_of_events(raw: bytes) -> str:
    """Give all text, reasoning and arguments of tool calls in a stream's events, all choices one after the other."""
    return unescaped(strings_of_events(raw))


def _chat(fields: dict[str, Any]) -> Prompt:
    prompt = Prompt([], _ANSWER_TOKENS)
    for message in _dicts(fields.get("messages")):
        prompt.further_tokens += _MESSAGE_TOKENS + _ROLE_TOKENS
        if isinstance(name := message.get("name"), str):
            prompt.further_tokens += _NAME_TOKENS
            prompt.texts.append(name)
        _add_content(prompt, message.get("content"))
        prompt.texts += _calls(message)
    for definition in _definitions(fields):
        prompt.is_rough = True
        prompt.texts.append(msgspec.json.encode(definition).decode())
    return prompt


def _definitions(fields: dict[str, Any]) -> list[Any]:
    """Give what describes tools and the shape of the answer."""
    found = [tool.get("function", tool) for tool in (*_dicts(fields.get("tools")), *_dicts(fields.get("functions")))]
    wanted = fields.get("response_format")
    if isinstance(wanted, dict) and isinstance(schema := wanted.get("json_schema"), dict):
        found.append(schema)
    return found


def _add_content(prompt: Prompt, content: object) -> None:
    if isinstance(content, str):
        prompt.texts.append(content)
    for part in _dicts(content):
        if isinstance(text := part.get("text"), str):
            prompt.texts.append(text)
        elif tokens := tokens_of_part(part):
            prompt.further_tokens += tokens
            prompt.is_rough = True


def _add_input(prompt: Prompt, given: object) -> None:
    """Add texts, or ids of tokens, or lists of either."""
    if isinstance(given, str):
        prompt.texts.append(given)
    elif isinstance(given, int):
        prompt.further_tokens += 1
    elif isinstance(given, list):
        for item in given:
            _add_input(prompt, item)


def _said(choice: dict[str, Any]) -> str:
    if isinstance(text := choice.get("text"), str):
        return text
    message = choice.get("message")
    if not isinstance(message, dict):
        return ""
    # The same thoughts may come under both names.
    fields = (message.get("reasoning_content") or message.get("reasoning"), message.get("refusal"))
    parts = [field for field in fields if isinstance(field, str)]
    content = Prompt(parts)
    _add_content(content, message.get("content"))
    return "".join((*content.texts, *_calls(message)))


def _calls(message: dict[str, Any]) -> list[str]:
    found = [call.get("function") for call in _dicts(message.get("tool_calls"))]
    functions = [one for one in (*found, message.get("function_call")) if isinstance(one, dict)]
    words = [function.get(name) for function in functions for name in ("name", "arguments")]
    return [word for word in words if isinstance(word, str)]


def _dicts(found: object) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
