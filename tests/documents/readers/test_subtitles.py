import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.readers.content import Content
from llmgateway.documents.readers.subtitles import is_subrip, is_webvtt, text_of

VTT = """WEBVTT - a meeting

NOTE made by hand

STYLE
::cue { color: white }

intro
00:00.500 --> 00:02.000 align:start position:0%
<v Anna Berg>Good <i>morning</i>.</v>

00:02.000 --> 00:04.000
<v.loud Anna Berg>How are <c.yellow>you</c>?</v>

1:00:04.000 --> 1:00:06.000
<v Ben>Fine &amp; you?
And the <00:05.000>rest?</v>
<v Anna Berg>Also.
"""


def test_voices_become_labels_and_cues_of_one_speaker_a_turn() -> None:
    assert is_webvtt(Content.of(VTT))
    assert text_of(Content.of(VTT)) == (
        "Anna Berg: Good morning. How are you?\nBen: Fine & you? And the rest?\nAnna Berg: Also.\n"
    )


SRT = """1
00:00:01,000 --> 00:00:02,500
<b>It rained</b>
all day.

2
00:00:02,600 --> 00:00:04,000
{\\an8}<font color="#fff">Nobody</font> came.

3
00:01:00,000 --> 00:01:02,000
Then it stopped.

4
00:01:02,000 --> 00:01:03,000
- Are you there?
- Yes.
"""


def test_without_names_a_pause_begins_a_paragraph_and_a_dash_a_speaker() -> None:
    assert is_subrip(Content.of(SRT))
    assert text_of(Content.of(SRT)) == (
        "It rained all day. Nobody came.\n\nThen it stopped.\n\nAre you there?\n\nYes.\n"
    )


def test_labels_in_the_text_begin_a_turn() -> None:
    cues = ["Anna: Hello.", "I am here.", "Ben: Hi."]
    srt = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{cue}\n\n" for n, cue in enumerate(cues, 1))

    assert text_of(Content.of(srt)) == "Anna: Hello. I am here.\n\nBen: Hi.\n"


def test_cues_without_a_blank_line_between_them_lose_their_numbers() -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,000\nOne.\n2\n00:00:02,000 --> 00:00:03,000\nTwo.\n"

    assert text_of(Content.of(srt)) == "One. Two.\n"


def test_a_line_that_a_machine_s_captions_repeat_is_said_once() -> None:
    vtt = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\nso<00:01.000><c> we</c>\n\n"
        "00:02.000 --> 00:02.010\nso we\n\n00:02.010 --> 00:04.000\nso we\nbegin<00:03.000><c> now</c>\n"
    )

    assert text_of(Content.of(vtt)) == "so we begin now\n"


def test_what_is_said_twice_is_kept_twice() -> None:
    vtt = "WEBVTT\n\n00:00.000 --> 00:01.000\nNo.\n\n00:01.000 --> 00:02.000\nNo.\n"

    assert text_of(Content.of(vtt)) == "No. No.\n"


def test_a_colon_in_a_name_does_not_end_it() -> None:
    assert (
        text_of(Content.of("WEBVTT\n\n00:00.000 --> 00:01.000\n<v Room 1: Anna>Hi < there\n"))
        == "Room 1 Anna: Hi < there\n"
    )


@pytest.mark.parametrize(
    "text", ["", "WEBVTTS\n", "1\n00:00 to 00:01\nx", "Anna: 00:00:01,000 --> 00:00:02,000", "1\n2\n3\n"]
)
def test_other_texts_are_no_subtitles(text: str) -> None:
    assert not is_webvtt(Content.of(text))
    assert not is_subrip(Content.of(text))


def test_subtitles_without_a_word_are_empty() -> None:
    assert text_of(Content.of("WEBVTT\n\n00:00.000 --> 00:01.000\n<i></i>\n")) == ""


PARTS = st.sampled_from(
    ["00:01.000 --> 00:02.000", "1", "<v Anna>", "</v>", "<i>", "{\\an8}", "- a", "A: b", "\n", "\n\n", "<v", "NOTE"]
)


@settings(deadline=None)
@given(st.lists(PARTS | st.text(max_size=3)).map("".join))
def test_whatever_stands_in_subtitles_is_read(text: str) -> None:
    assert isinstance(text_of(Content.of(f"WEBVTT\n{text}")), str)


@pytest.mark.parametrize("cue", ["<v " * 50_000, "{\\" * 50_000, "<b " * 50_000, "\n1 " * 50_000, "&" * 200_000])
def test_tags_without_end_take_no_time(cue: str) -> None:
    assert text_of(Content.of(f"WEBVTT\n\n00:01.000 --> 00:02.000\n{cue}\n"))
