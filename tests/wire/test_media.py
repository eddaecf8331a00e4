import base64
from typing import Any

import msgspec
import pytest

from llmgateway.wire.media import MEDIA_NEEDS, NO_MEDIA, Media, media_of, tokens_of_part

VISION = frozenset({"vision"})


def chat(*parts: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": parts}]})


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def image(url: str, **fields: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def embedded(media_type: str, length: int) -> str:
    return f"data:{media_type};base64,".ljust(length, "A")


def sound(given: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": given, "format": "wav"}}


def file(**fields: str) -> dict[str, Any]:
    return {"type": "file", "file": fields}


RIFF = base64.b64encode(b"RIFF" + bytes(480_000 - 4)).decode()


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (text("no image"), 0),
        (image("https://example.org/cat.png"), 765),
        (image(embedded("image/png", 4_000_000), detail="high"), 765),
        (image("https://example.org/cat.png", detail="low"), 85),
        ({"type": "image_url", "image_url": "https://example.org/cat.png"}, 765),
        ({"type": "image_url"}, 765),
        # 480,000 bytes of WAV are ten seconds, packed they are thirty; nothing counts less than its rule's unit.
        (sound(RIFF), 100),
        (sound("A" * 640_000), 300),
        (sound(""), 10),
        ({"type": "audio_url", "audio_url": {"url": embedded("audio/wav", 640_000)}}, 100),
        ({"type": "video_url", "video_url": {"url": embedded("video/mp4", 1_000_000)}}, 1800),
        ({"type": "video_url", "video_url": {"url": "https://example.org/cat.mp4"}}, 300),
        (file(file_data=embedded("application/pdf", 400_000)), 12_000),
        (file(file_data=embedded("text/plain", 40_000)), 7500),
        (file(file_id="file-1"), 2000),
        ({"type": "odd", "odd": {"url": "x"}}, 0),
        ({"type": ["image_url"]}, 0),
        ({}, 0),
    ],
)
def test_parts_count_by_what_they_are_and_how_large(part: dict[str, Any], tokens: int) -> None:
    assert tokens_of_part(part) == tokens


@pytest.mark.parametrize(
    ("parts", "needs", "base64_bytes", "tokens"),
    [
        ([image(embedded("image/png", 9000))], VISION, 9000, 765),
        ([image(embedded("image/png", 9000)), image(embedded("image/jpeg", 500))], VISION, 9500, 2 * 765),
        ([text("Look:"), image("https://example.org/cat.png")], VISION, 0, 765),
        ([sound(RIFF)], {"audio"}, 640_000, 100),
        ([file(file_data=embedded("application/pdf", 400_000), filename="a.pdf")], {"pdf"}, 400_000, 12_000),
        ([image(embedded("image/png", 9000)), sound(RIFF)], MEDIA_NEEDS, 649_000, 865),
        ([image(embedded("image/png", 9000)), sound(RIFF)], {"audio"}, 640_000, 100),
        ([image(embedded("image/png", 9000))], {"tools"}, 0, 0),
    ],
)
def test_a_whole_body_is_looked_through_without_parsing_it(
    parts: list[dict[str, Any]], needs: set[str], base64_bytes: int, tokens: int
) -> None:
    assert media_of(chat(*parts), frozenset(needs)) == Media(base64_bytes, tokens)


def test_blanks_within_the_json_change_nothing() -> None:
    compact = chat(image(embedded("image/png", 9000)))

    assert media_of(msgspec.json.format(compact, indent=2), VISION) == media_of(compact, VISION)


@pytest.mark.parametrize(
    "body",
    [
        chat(text('<img src="data:image/png;base64,AAAA"> {"url": "data:image/png;base64,AAAA"}')),
        msgspec.json.encode({"tools": [{"parameters": {"properties": {"url": {"type": "string"}, "data": {}}}}]}),
        b'{"url": "cut off',
        b'"url"',
        b"",
    ],
)
def test_text_that_speaks_of_media_is_text(body: bytes) -> None:
    assert media_of(body) == NO_MEDIA
