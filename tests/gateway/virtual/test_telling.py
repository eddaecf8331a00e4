from datetime import UTC, datetime

import msgspec

from llmgateway.gateway.virtual.telling import Frame, progress_comment, usage_of

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


def read(chunk: bytes) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(chunk.removeprefix(b"data: "))
    return found


def test_pieces_of_one_answer_have_one_id_and_one_date() -> None:
    frame = Frame("7", "service/summarize", AT)

    first, second = read(frame.role()), read(frame.piece("hi"))

    assert {name: first[name] for name in ("id", "created", "model")} == {
        name: second[name] for name in ("id", "created", "model")
    }
    assert "system_fingerprint" not in first


def test_usage_comes_in_the_last_chunk_or_in_one_of_its_own() -> None:
    frame, usage = Frame("7", "m", AT, demo=True), {"total_tokens": 3}

    together = frame.end(usage, apart=False).split(b"\n\n")
    apart = frame.end(usage, apart=True).split(b"\n\n")

    assert len(together) == 3
    assert read(together[0])["usage"] == usage
    assert read(apart[1])["choices"] == []
    assert read(apart[1])["usage"] == usage
    assert apart[2] == b"data: [DONE]"


def test_progress_is_a_comment() -> None:
    assert progress_comment({"percentage": 12.5}) == b': progress {"percentage":12.5}\n\n'


def test_a_cost_that_nobody_knows_is_left_out() -> None:
    assert usage_of({"total_tokens": 3, "total_cost": None}) == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 3,
    }
    assert usage_of(None) is None
