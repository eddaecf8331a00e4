import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmgateway.catalog import known
from llmgateway.catalog.known import find, known_models, of_provider, provider_name
from llmgateway.catalog.model import Prices

MEASURE = """
import psutil, time
import importlib.util, json, msgspec, pathlib
from llmgateway.catalog import known

def spent_s(work):
    started = time.process_time()
    work()
    return time.process_time() - started

process = psutil.Process()
before = process.memory_info().rss
table_s = spent_s(known.known_models)
megabytes = (process.memory_info().rss - before) / 1e6
file = pathlib.Path(importlib.util.find_spec("litellm").origin).parent / known._FILE
# What Python's own parser takes for the same file, in the same moment: machines differ, and so do their moods.
unit_s = max(spent_s(lambda: json.loads(file.read_bytes())) for _ in range(3))
print(table_s / unit_s, megabytes)
"""


def test_litellm_tells_window_prices_and_capabilities() -> None:
    model = find("openai", "gpt-4o")

    assert model is not None
    assert (model.mode, model.context_length, model.max_output_tokens) == ("chat", 128000, 16384)
    assert model.prices is not None
    assert (model.prices.input, model.prices.output, model.prices.cached) == (2.5e-06, 1e-05, 1.25e-06)
    assert model.capabilities >= {"vision", "tools", "parallel_tools", "json_schema", "prompt_caching", "streaming"}


def test_what_the_table_denies_is_told_apart_from_what_it_does_not_say() -> None:
    table = known.decode(b"""{
        "a": {"mode": "chat", "supports_vision": false, "supports_web_search": false,
              "supports_function_calling": true},
        "b": {"mode": "chat"},
        "c": {"mode": "chat", "supports_vision": null, "supports_audio_input": false, "supports_reasoning": false}
    }""")

    assert [(set(model.capabilities), set(model.lacks)) for model in table.values()] == [
        ({"tools", "streaming"}, {"vision"}),
        ({"streaming"}, set()),
        ({"streaming"}, {"audio", "reasoning"}),
    ]
    found = find("openai", "o3-mini")
    assert found is not None
    assert "vision" in found.lacks
    assert any(model.lacks for model in known_models().values())


def test_a_model_is_found_with_and_without_its_providers_prefix() -> None:
    assert find("gemini", "gemini-2.5-pro") is not None
    assert find("vertex_ai", "gemini-2.5-pro") is not None
    assert find("groq", "gpt-4o") is None
    assert find("openai", "nothing-like-this") is None


def test_models_of_a_provider_come_without_its_prefix() -> None:
    names = [name for name, _ in of_provider("mistral")]

    assert "mistral-large-latest" in names
    assert not any(name.startswith("mistral/") for name in names)


def test_embeddings_do_not_stream() -> None:
    assert known.embeds("openai", "text-embedding-3-small")
    assert not known.embeds("openai", "gpt-4o")
    assert not known.embeds("openai", "nothing-like-this")

    model = find("openai", "text-embedding-3-small")

    assert model is not None
    assert (model.mode, "streaming" in model.capabilities) == ("embedding", False)


def test_finer_names_are_the_providers() -> None:
    given = ("openai", "vertex_ai-language-models", "bedrock_converse", "cohere_chat", "nano-gpt")

    assert [provider_name(name) for name in given] == ["openai", "vertex_ai", "bedrock", "cohere", "nano-gpt"]


def test_only_what_can_be_asked_today_is_kept() -> None:
    assert {model.mode for model in known_models().values()} == {"chat", "completion", "embedding"}
    assert "sample_spec" not in known_models()


def test_the_table_costs_little_time_and_memory_and_not_litellms_import() -> None:
    measured = subprocess.run(  # noqa: S603  # our own interpreter and text
        [sys.executable, "-c", MEASURE + "import sys; assert 'litellm' not in sys.modules"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    units, megabytes = map(float, measured.stdout.split())

    assert megabytes <= 8
    assert units <= 8, "about 2 where both are measured in a quiet moment"


def test_an_odd_row_costs_that_row_only() -> None:
    table = known.decode(b"""{
        "good": {"litellm_provider": "groq", "mode": "chat", "max_tokens": "9", "input_cost_per_token": 1e-06,
                 "output_cost_per_token": 2},
        "odd": {"litellm_provider": 5, "mode": "chat"},
        "image": {"litellm_provider": "openai", "mode": "image_generation"},
        "bare": {}
    }""")

    assert list(table) == ["good"]
    assert table["good"].context_length is None
    assert table["good"].prices == Prices(1e-06, 2.0)


def test_reading_twice_is_free() -> None:
    known_models()

    started = time.perf_counter()
    assert known_models() is known_models()
    assert time.perf_counter() - started < 0.01


def test_without_litellm_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ModuleNotFoundError, match="install"):
        known.loaded.__wrapped__()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "truncated"), (b'{"gpt-4o": {"mode"', "truncated"), (b"[]", "Expected"),
     (b"\xff\xfe", "malformed"), (b"{}", "no model")],
)  # fmt: skip
def test_pitfall_037_a_table_that_cannot_be_read_leaves_models_without_a_price_and_says_so(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_bytes(content)

    table, fault = known.read(path)

    assert table == {}
    assert fault is not None
    assert reason in fault
    assert "no price" in fault


def test_pitfall_043_a_model_whose_row_says_no_price_has_none() -> None:
    table = known.decode(b"""{
        "free": {"mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
        "by-the-hour": {"mode": "chat", "input_cost_per_second": 0.1},
        "half": {"mode": "chat", "input_cost_per_token": 1e-06},
        "words": {"mode": "chat", "input_cost_per_token": "1e-06", "output_cost_per_token": "much"},
        "embed": {"mode": "embedding", "input_cost_per_token": 1e-06}
    }""")

    assert {name: model.prices for name, model in table.items()} == {
        "free": Prices(0.0, 0.0),
        "by-the-hour": None,
        "half": None,
        "words": None,
        "embed": Prices(1e-06, 0.0),
    }
