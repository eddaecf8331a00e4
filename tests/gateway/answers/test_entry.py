import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.exchange import Usage
from llmgateway.gateway.answers.entry import Kept, pack, unpack

SHORT = Kept(body=b'{"choices":[]}', usage=Usage(prompt_tokens=3), provider="main", model="gpt")
LONG = Kept(chunks=(b"data: {}\n\n" * 500, b"data: [DONE]\n\n"))


@pytest.mark.parametrize("kept", [SHORT, LONG])
def test_an_answer_is_read_as_it_was_written(kept: Kept) -> None:
    assert unpack(pack(kept)) == kept


@pytest.mark.parametrize(
    ("kept", "short"),
    [(SHORT, True), (Kept(b"x" * 4097), False), (Kept(chunks=(b"x",)), False), (Kept(b"x", model="m" * 300), False)],
)
def test_only_short_whole_answers_are_as_good_unpacked(kept: Kept, short: bool) -> None:
    assert kept.is_short is short
    assert kept.packed() == pack(kept)


def test_long_answers_are_compressed() -> None:
    assert len(pack(LONG)) < LONG.size_bytes / 10


@pytest.mark.parametrize("kept", [SHORT, LONG])
def test_a_damaged_answer_is_none(kept: Kept) -> None:
    packed = pack(kept)

    for at in (0, 1, 4, 5, len(packed) // 2, len(packed) - 1):
        damaged = bytearray(packed)
        damaged[at] ^= 0x01
        assert unpack(bytes(damaged)) is None, at
        assert unpack(packed[:at]) is None


@given(st.binary(max_size=200), st.sampled_from([b"\x01", b"\x02", b"\x03"]))
def test_whatever_lies_in_the_store_nothing_breaks(rest: bytes, form: bytes) -> None:
    assert unpack(rest) is None or rest[:1] in {b"\x01", b"\x02"}
    assert unpack(form + zlib.crc32(rest).to_bytes(4, "big") + rest) is None or rest
