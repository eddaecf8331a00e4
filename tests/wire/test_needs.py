import msgspec
import pytest
from msgspec import Raw

from llmgateway.wire.needs import NEEDED_BY, NO_NEEDS, NOT_GIVEN, needs_of_fields, needs_of_parts


def of_fields(**fields: str) -> frozenset[str]:
    names = ("tools", "functions", "response_format", "effort", "modalities")
    return needs_of_fields(*(Raw(fields[name].encode()) if name in fields else NOT_GIVEN for name in names))


@pytest.mark.parametrize(
    ("types", "needs"),
    [
        (["text", "image_url"], {"vision"}),
        (["input_audio", "text"], {"audio"}),
        (["file"], {"pdf"}),
        (["image_url", "file", "image_url"], {"vision", "pdf"}),
        (["text", "refusal", "hologram"], set()),
        ([], set()),
    ],
)
def test_what_is_no_text_needs_a_model_that_takes_it(types: list[str], needs: set[str]) -> None:
    assert needs_of_parts(types) == needs


@pytest.mark.parametrize(
    ("fields", "need"),
    [
        ({"tools": '[{"type":"function"}]'}, "tools"),
        ({"tools": ' [ {"type":"function"}]'.strip()}, "tools"),
        ({"functions": '[{"name":"f"}]'}, "tools"),
        ({"response_format": '{"type":"json_schema","json_schema":{"name":"x"}}'}, "json_schema"),
        ({"effort": '"high"'}, "reasoning"),
        ({"effort": '"minimal"'}, "reasoning"),
        ({"modalities": '["text","audio"]'}, "audio_output"),
    ],
)
def test_a_field_needs_a_model_that_knows_it(fields: dict[str, str], need: str) -> None:
    assert of_fields(**fields) == {need}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": "[]"},
        {"tools": "[ \n ]"},
        {"tools": "null"},
        {"functions": "[]"},
        {"response_format": '{"type":"json_object"}'},
        {"response_format": '{"type":"text"}'},
        {"effort": "null"},
        {"effort": '"none"'},
        {"effort": '""'},
        {"modalities": '["text"]'},
        {"modalities": "[]"},
    ],
)
def test_a_field_that_asks_for_nothing_needs_nothing(fields: dict[str, str]) -> None:
    assert of_fields(**fields) is NO_NEEDS


@pytest.mark.parametrize("odd", ["{}", "7", "true", '"x"', "[[1]]", '{"type":["json_schema"]}', r'"\q"'])
@pytest.mark.parametrize("name", ["response_format", "modalities"])
def test_what_is_odd_about_a_field_is_the_upstreams_to_say(name: str, odd: str) -> None:
    assert of_fields(**{name: odd}) is NO_NEEDS


@pytest.mark.parametrize("odd", ["{}", "7", "true", '"x"', '{"a":[1]}'])
def test_tools_that_are_no_list_need_nothing(odd: str) -> None:
    assert of_fields(tools=odd) is NO_NEEDS


@pytest.mark.parametrize("odd", ["{}", "7", "true", '["high"]', r'"\q"'])
def test_an_effort_that_is_no_text_needs_nothing(odd: str) -> None:
    assert of_fields(effort=odd) is NO_NEEDS


def test_fields_add_up() -> None:
    given = of_fields(tools="[{}]", effort='"low"', response_format='{"type":"json_schema"}')

    assert given == {"tools", "reasoning", "json_schema"}


def test_long_tools_are_not_read() -> None:
    broken = Raw(b'[{"type":"function","function":' + b"x" * 100_000)

    assert needs_of_fields(broken, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN) == {"tools"}
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(broken)


def test_every_need_names_the_field_that_it_came_from() -> None:
    every = needs_of_parts(["image_url", "input_audio", "file"]) | of_fields(
        tools="[{}]", effort='"low"', response_format='{"type":"json_schema"}', modalities='["audio"]'
    )

    assert every | {"streaming"} == set(NEEDED_BY)
