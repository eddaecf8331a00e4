import json
from pathlib import Path

import pytest

from llmgateway.catalog.building.tokenizers import fault, located, name_fault
from llmgateway.catalog.load import CatalogError, load
from llmgateway.catalog.rows import DeploymentFields, Rows
from tests.catalog.building.given import model, text_of

VOCABULARY = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "llama.json").write_text(json.dumps(VOCABULARY))
    (tmp_path / "broken.json").write_text('{"model": ')
    return tmp_path


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base", "llama.json", "tokenizers/llama.json", "./a/b"])
def test_an_encoding_or_a_path_within_the_folder_may_be_named(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../llama.json", "a/../../b.json", "C:\\llama.json", "a\\b.json", "a/\0.json"]
)
def test_a_path_out_of_the_folder_is_none(name: str) -> None:
    assert name_fault(name) == "must be a path within the catalog's folder, such as `tokenizers/llama.json`"


def test_an_unknown_encoding_is_told_with_the_nearest() -> None:
    said = name_fault("o200_base")

    assert said == "there is no encoding 'o200_base'; the nearest is 'o200k_base', or name a tokenizer.json by its path"


def test_a_file_is_looked_at(folder: Path) -> None:
    assert fault("tokenizers/llama.json", folder) is None
    assert fault("o200k_base", folder) is None
    assert "no file `none.json`" in (fault("none.json", folder) or "")
    assert "no Hugging Face tokenizer.json" in (fault("broken.json", folder) or "")
    assert fault("../x.json", folder) is not None


def test_a_path_is_that_of_the_folder_and_an_encoding_stays(folder: Path) -> None:
    assert located("tokenizers/llama.json", folder) == str(folder / "tokenizers" / "llama.json")
    assert located("o200k_base", folder) == "o200k_base"


def test_the_catalogs_own_folder_is_where_its_tokenizers_are(folder: Path) -> None:
    chat = {
        "name": "chat",
        "tokenizer": "tokenizers/llama.json",
        "deployments": [
            {"provider": "house", "model": "x"},
            {"provider": "house", "model": "y", "tokenizer": "o200k_base"},
        ],
    }

    first, second = load(text_of([chat]), {}, filename=str(folder / "gateway.yaml")).models["chat"].deployments

    assert (first.tokenizer, second.tokenizer) == (str(folder / "tokenizers" / "llama.json"), "o200k_base")


def test_a_wrong_one_is_a_fault_with_its_place(folder: Path) -> None:
    models = [model("a", tokenizer="broken.json"), model("b", tokenizer="o200k_bas")]

    with pytest.raises(CatalogError) as caught:
        load(text_of(models), {}, folder=folder)

    assert [
        "models[0].tokenizer: `broken.json`" in one or "models[1].tokenizer: there is" in one
        for one in caught.value.faults
    ] == [
        True,
        True,
    ]


def test_a_row_with_a_wrong_one_is_left_out(folder: Path) -> None:
    fields = {"provider": "house", "model": "x"}
    rows = Rows(
        {},
        [
            DeploymentFields("dep_1", "a", {**fields, "tokenizer": "/etc/passwd"}),
            DeploymentFields(
                "dep_2", "a", {**fields, "tokenizer": "tokenizers/llama.json", "probe": {"interval_s": 5}}
            ),
        ],
    )

    catalog = load(text_of([]), {}, folder=folder, rows=rows)

    (kept,) = catalog.models["a"].deployments
    assert (kept.row_id, kept.tokenizer, kept.probe_s) == ("dep_2", str(folder / "tokenizers" / "llama.json"), 5)
    assert "deployments.dep_1: tokenizer: must be a path within the catalog's folder" in catalog.warnings[-1]
