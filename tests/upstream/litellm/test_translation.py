import pytest

from llmgateway.upstream.litellm.translation import Answered, Silent, joined


@pytest.mark.parametrize(
    ("base", "whole"),
    [
        ("https://host", "https://host/v1/messages"),
        ("https://host/", "https://host/v1/messages"),
        ("https://host/v1", "https://host/v1/messages"),
        ("https://host/v1beta", "https://host/v1beta/messages"),
        ("https://host/api", "https://host/api/messages"),
        ("https://host/v1/messages", "https://host/v1/messages"),
        ("https://host/team", "https://host/team/v1/messages"),
    ],
)
def test_a_path_is_added_once(base: str, whole: str) -> None:
    assert joined(base, "/v1", "/messages") == whole


def test_an_answer_looks_like_httpxs() -> None:
    answer = Answered(b'{"a": "\xc3\xa9"}', {"x": "1"})

    assert (answer.text, answer.json(), answer.headers, answer.status_code) == (
        '{"a": "é"}',
        {"a": "é"},
        {"x": "1"},
        200,
    )


def test_what_litellm_logs_goes_nowhere() -> None:
    silent = Silent({"stream": True})
    silent.post_call("prompt", api_key="key-0042")

    assert vars(silent) == {"optional_params": {"stream": True}, "model_call_details": {}}
