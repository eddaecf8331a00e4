import json

import pytest

from llmgateway.sensitivity.bodies import rewritten, texts_of, wants_json

BODY = {
    "model": "chat",
    "temperature": 1e-05,
    "seed": 123456789012345678901234567890,
    "messages": [
        {"role": "system", "content": "SECRET one"},
        {"role": "user", "name": "SECRET", "content": [{"type": "text", "text": "SECRET two"}, {"type": "image_url"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "SECRET", "function": {"name": "SECRET", "arguments": '{"a": "SECRET"}'}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "SECRET three"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "SECRET four"}}],
    "metadata": {"key SECRET": "SECRET five"},
}


def hide(text: str, is_json: bool) -> str:
    return text.replace("SECRET", "JSON" if is_json else "HIDDEN")


def test_every_text_and_every_name_of_a_body_is_looked_at() -> None:
    text = texts_of(json.dumps(BODY).encode())

    assert all(f"SECRET {word}" in text for word in ("one", "two", "three", "four", "five"))
    assert "key SECRET" in text
    assert '{"a": "SECRET"}' in text


def test_texts_do_not_run_into_each_other() -> None:
    assert texts_of(b'{"a":"password:","b":"hunter2!"}').count("\x00") == 3


def test_escapes_are_no_hiding_place_and_neither_is_what_cannot_be_read() -> None:
    assert "AKIA" in texts_of(rb'{"prompt": "\u0041KIA"}')
    assert "AKIA" in texts_of(b'{"prompt": "\\ud800 AKIA"}')
    assert "AKIA" in texts_of(b"[" * 5000 + b"AKIA\xff")


def test_images_are_not_looked_at() -> None:
    assert "iVBOR" not in texts_of(b'{"image_url": {"url": "data:image/png;base64,iVBOR"}}')


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64,iVBOR SECRET",
        "data:SECRET;base64,iVBOR",
        "data:a/b SECRET;base64,iVBOR",
        "data:a/b;base64",
        "data:a/SECRET",
    ],
)
def test_a_text_that_begins_like_an_image_is_a_text(text: str) -> None:
    assert text in texts_of(json.dumps({"content": text}).encode())


def test_contents_are_rewritten_and_nothing_else() -> None:
    new = json.loads(rewritten(json.dumps(BODY).encode(), hide))

    assert [message["content"] for message in new["messages"]] == [
        *("HIDDEN one", [{"type": "text", "text": "HIDDEN two"}, {"type": "image_url"}], None, "HIDDEN three"),
    ]
    assert new["messages"][2]["tool_calls"][0] == {
        "id": "SECRET",
        "function": {"name": "SECRET", "arguments": '{"a": "JSON"}'},
    }
    assert new["messages"][1]["name"] == "SECRET"
    assert {name: new[name] for name in ("tools", "metadata", "model")} == {
        name: BODY[name] for name in ("tools", "metadata", "model")
    }


def test_the_older_form_of_a_tool_call_is_rewritten_as_json_too() -> None:
    body = {"messages": [{"role": "assistant", "function_call": {"name": "SECRET", "arguments": '{"a": "SECRET"}'}}]}

    (message,) = json.loads(rewritten(json.dumps(body).encode(), hide))["messages"]

    assert message["function_call"] == {"name": "SECRET", "arguments": '{"a": "JSON"}'}


def test_values_that_stay_keep_their_bytes() -> None:
    body = (
        b'{"prompt": ["SECRET", [1, 2]], "temperature": 1.50, "seed": 123456789012345678901234567890, "x": {"a":  1}}'
    )

    new = rewritten(body, hide)

    assert b'["HIDDEN",[1, 2]]' in new
    assert all(part in new for part in (b"1.50", b"123456789012345678901234567890", b'{"a":  1}'))


def test_a_body_without_changes_is_the_same_object() -> None:
    body = json.dumps(BODY).encode()

    assert rewritten(body, lambda text, _: text) is body


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"input": "\\ud800"}'])
def test_what_cannot_be_read_cannot_be_rewritten(body: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        rewritten(body, hide)


@pytest.mark.parametrize(
    ("body", "wants"),
    [
        (b"{}", False),
        (b'{"response_format": {"type": "json_object"}}', True),
        (b'{"response_format": {"type": "json_schema"}}', True),
        (b'{"response_format": {"type": "text"}}', False),
        (b'{"response_format": null}', False),
        (b'{"response_format": ', False),
    ],
)
def test_it_is_known_whether_the_answer_is_to_be_json(body: bytes, wants: bool) -> None:
    assert wants_json(body) is wants
