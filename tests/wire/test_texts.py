from typing import Any, Literal

import msgspec
import pytest

from llmgateway.wire.texts import Prompt, strings_of_events, text_of_answer, text_of_events, text_of_request, unescaped


def event(**delta: Any) -> bytes:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def chat(**fields: Any) -> Prompt:
    return text_of_request("chat", msgspec.json.encode({"model": "m", **fields}))


def test_a_chat_is_its_messages_names_and_tools_in_openais_frame() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]

    prompt = chat(messages=messages, tools=[tool])

    assert prompt.texts == [
        *("Be brief.", "ann", "What is this?", "weather", '{"city":"Rome"}'),
        '{"name":"weather","parameters":{"type":"object"}}',
    ]
    assert prompt.is_rough
    # Each message three and its role, a name one, the answer's start three.
    assert prompt.further_tokens == 3 * (3 + 1) + 1 + 3


@pytest.mark.parametrize(("detail", "tokens"), [("low", 85), ("high", 765), (None, 765)])
def test_a_picture_counts_by_its_detail_and_not_by_its_base64(detail: str | None, tokens: int) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999, "detail": detail}}

    prompt = chat(messages=[{"role": "user", "content": [image]}])

    assert prompt == Prompt([], 7 + tokens, is_rough=True)


def test_sound_and_files_count_by_their_size_and_not_as_text() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}
    file = {"type": "file", "file": {"file_id": "file-1"}}

    prompt = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Listen."}, sound, file]}])

    assert prompt == Prompt(["Listen."], 7 + 30 + 2000, is_rough=True)


def test_the_schema_of_the_answer_is_part_of_the_question() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}

    prompt = chat(messages=[{"role": "user", "content": "Rome?"}], response_format=wanted)

    assert prompt == Prompt(["Rome?", '{"name":"city","schema":{"type":"object"}}'], 7, is_rough=True)
    assert chat(messages=[], response_format={"type": "json_object"}) == Prompt([], 3)


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [
        ("one", ["one"], 0),
        (["one", "two"], ["one", "two"], 0),
        ([1, 2, 3], [], 3),
        ([[1, 2], [3]], [], 3),
        (None, [], 0),
        ({"odd": 1}, [], 0),
    ],
)
def test_prompts_and_inputs_are_texts_or_tokens(given: object, texts: list[str], tokens: int) -> None:
    fields: tuple[tuple[Literal["completion", "embedding"], str], ...] = (
        ("completion", "prompt"),
        ("embedding", "input"),
    )
    for operation, field in fields:
        assert text_of_request(operation, msgspec.json.encode({field: given})) == Prompt(texts, tokens)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 5}', b'{"messages": [1, {"content": {}}]}', b"\xff"])
def test_what_is_odd_in_a_request_counts_nothing(body: bytes) -> None:
    assert text_of_request("chat", body).texts == []


def test_an_answer_is_all_that_each_choice_says() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    one = {"message": {"content": "Hé", "reasoning_content": "Hm.", "reasoning": "Hm.", "tool_calls": [call]}}
    other = {"message": {"content": None, "refusal": "No."}}

    assert text_of_answer(msgspec.json.encode({"choices": [one, other]})) == "Hm.Héf{}No."
    assert text_of_answer(b'{"choices": [{"text": "one"}, {"text": "two"}]}') == "onetwo"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": []}', b'{"choices": [1, {"message": 2}]}', b"nonsense"])
def test_an_answer_that_is_none_says_nothing(body: bytes) -> None:
    assert text_of_answer(body) == ""


def test_events_say_content_reasoning_and_arguments() -> None:
    arguments = {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "'}}]}
    raw = b"".join(
        (
            *(event(role="assistant", content=""), event(reasoning_content="Hm. "), event(content='Say "hé"\n')),
            *(event(**arguments), event(content="😀"), b"data: [DONE]\n\n"),
        )
    )

    assert text_of_events(raw) == 'Hm. Say "hé"\n{"a": "😀'


def test_events_with_blanks_and_events_of_completions_are_read() -> None:
    assert text_of_events(b'data: {"choices": [{"delta": {"content": "a\\u00e9"}}]}\r\n\r\n') == "aé"
    assert (
        text_of_events(b'data: {"choices": [{"text": "one"}]}\n\ndata: {"choices":[{"text":" two"}]}\n\n') == "one two"
    )


def test_a_letter_cut_in_two_by_events_is_whole_again() -> None:
    raw = b'data: {"delta":{"content":"\\ud83d"}}\n\ndata: {"delta":{"content":"\\ude00"}}\n\n'

    assert text_of_events(raw) == "😀"
    assert unescaped(strings_of_events(raw)[:6]) == "\\ud83d"
