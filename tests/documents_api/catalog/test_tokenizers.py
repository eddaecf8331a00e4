from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.documents_api.library import ACME, Library, opened

FILE = """
providers: {main: {provider: openai, api_key: k}}
models:
  - {name: chat, deployments: [{provider: main, model: gpt-4o}]}
  - {name: house, deployments: [{provider: main, model: ours, tokenizer: words.json}]}
"""


def words(folder: Path) -> None:
    """Write a tokenizer that counts words."""
    made = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))  # noqa: S106  no secret
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "words.json"))


async def test_the_tokens_of_a_text_are_counted_as_its_model_does(library: Library) -> None:
    counted = await library.ask("POST", "/tokenizers/count", {"text": "hello world", "model": "chat"})

    assert counted == {
        "tokens": 2,
        "counts": None,
        "characters": 11,
        "model": "chat",
        "tokenizer": "o200k_base",
        "exact": True,
    }


async def test_several_texts_are_counted_each_and_together(library: Library) -> None:
    body = {"texts": ["hello world", "", "お誕生日おめでとう"], "tokenizer": "cl100k_base"}

    counted = await library.ask("POST", "/tokenizers/count", body)

    assert (counted["counts"], counted["tokens"], counted["tokenizer"]) == ([2, 0, 9], 11, "cl100k_base")


async def test_without_a_model_an_estimate_is_made_and_called_so(library: Library) -> None:
    counted = await library.ask("POST", "/tokenizers/count", {"text": "hello world"})

    assert (counted["tokens"], counted["tokenizer"], counted["exact"]) == (2, "estimate", False)
    assert (await library.ask("POST", "/tokenizers/count", {"text": "a", "model": "auto"}))["tokens"] == 1


async def test_a_models_own_file_is_reached_by_its_model_only(tmp_path: Path) -> None:
    words(tmp_path)
    async with opened(tmp_path, FILE) as library:
        listed = {one["name"]: one for one in (await library.ask("GET", "/tokenizers"))["items"]}
        assert listed["words.json"] == {
            "name": "words.json",
            "type": "huggingface",
            "models": ["house"],
            "loaded": False,
        }
        loaded = await library.ask("POST", "/tokenizers/preload", {"model": "house"})
        counted = await library.ask("POST", "/tokenizers/count", {"text": "a b a", "model": "house"})
        again = {one["name"]: one["loaded"] for one in (await library.ask("GET", "/tokenizers"))["items"]}

        assert loaded == {"tokenizer": "words.json", "exact": True, "loaded": True}
        assert (counted["tokens"], counted["tokenizer"]) == (3, "words.json")
        assert again["words.json"]
        assert str(tmp_path) not in str(listed)
        library.become(ACME)
        assert "words.json" not in {one["name"] for one in (await library.ask("GET", "/tokenizers"))["items"]}


async def test_an_encoding_is_loaded_before_it_is_needed(library: Library) -> None:
    loaded = await library.ask("POST", "/tokenizers/preload", {"tokenizer": "o200k_base"})

    assert loaded == {"tokenizer": "o200k_base", "exact": True, "loaded": True}
    assert (await library.ask("POST", "/tokenizers/preload", {"model": "chat"}))["loaded"]
    items = (await library.ask("GET", "/tokenizers"))["items"]
    assert [one["name"] for one in items] == ["cl100k_base", "o200k_base"]
    assert items[1]["loaded"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("count", {}, 422),
        ("count", {"text": "a", "texts": ["a"]}, 422),
        ("count", {"texts": []}, 422),
        ("count", {"text": "a", "tokenizer": "/etc/passwd"}, 422),
        ("count", {"text": "a", "tokenizer": "words.json"}, 422),
        ("count", {"text": "a", "model": "chat", "tokenizer": "o200k_base"}, 422),
        ("count", {"text": "a", "model": "no/such"}, 400),
        ("preload", {}, 422),
        ("preload", {"tokenizer": "../words.json"}, 422),
    ],
)
async def test_what_names_no_tokenizer_is_refused(library: Library, path: str, body: Any, status: int) -> None:
    await library.refused("POST", f"/tokenizers/{path}", body, status=status)


async def test_a_model_that_the_key_may_not_use_counts_nothing(library: Library) -> None:
    library.become(ACME)

    error = await library.refused("POST", "/tokenizers/count", {"text": "a", "model": "private"})

    assert error["error_code"] == "MODEL_NOT_FOUND"
