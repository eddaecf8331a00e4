import pytest

from llmgateway.errors import DocumentError
from llmgateway.jobs.windows import DEMO_MODEL, counting, window_of
from tests.jobs.shop import COUNTER, catalog

TWO = """
providers: {main: {provider: openai, api_key: sk-a}, other: {provider: mistral, api_key: sk-b}}
models:
  - name: chat
    deployments:
      - {provider: main, model: unheard-of, context_length: 9000, max_output_tokens: 4000, tokenizer: cl100k_base,
         prices_per_million: {input: 3, output: 6}}
      - {provider: other, model: unheard-of, context_length: 6000, max_output_tokens: 5000,
         prices_per_million: {input: 1, output: 2}}
  - name: mute
    deployments: [{provider: main, model: nobody-knows-this-one}]
  - name: short
    deployments: [{provider: main, model: nobody-knows-this-one, context_length: 400, max_output_tokens: 4000}]
"""


def test_a_models_window_is_the_smallest_of_its_deployments() -> None:
    window = window_of(catalog(TWO), "chat")

    assert (window.model, window.context_length, window.max_generation) == ("chat", 6000, 3000)
    assert (window.upstream_model, window.tokenizer, window.estimated) == ("unheard-of", "cl100k_base", False)
    assert window.cheapest is not None
    assert window.dearest is not None
    assert (window.cheapest.input_usd, window.dearest.output_usd) == (1e-6, 6e-6)


def test_an_answer_takes_half_of_the_window_at_most() -> None:
    assert window_of(catalog(TWO), "short").max_generation == 200


def test_a_window_that_nobody_knows_is_estimated() -> None:
    window = window_of(catalog(TWO), "mute")

    assert (window.context_length, window.max_generation, window.estimated) == (8192, 2048, True)
    assert (window.cheapest, window.dearest) == (None, None)


def test_auto_has_the_smallest_window_of_all_that_it_may_pick() -> None:
    window = window_of(catalog(), "auto")

    assert (window.model, window.context_length, window.max_generation) == ("auto", 2000, 500)


def test_the_demo_answers_for_auto_where_there_is_nothing_else() -> None:
    window = window_of(catalog(None), "auto")

    assert (window.model, window.estimated) == (DEMO_MODEL, False)
    assert window.dearest is not None
    assert window.dearest.input_usd == 0


def test_an_account_without_models_in_the_catalog_answers_with_one_that_suits() -> None:
    only_a_key = 'providers: {openai: {provider: openai, api_key: sk-a}}\nmodels: [{name: "*", passthrough: true}]'

    assert window_of(catalog(only_a_key), "auto").model == "openai/gpt-5.4"


def test_a_model_that_is_not_there_is_named_with_its_neighbours() -> None:
    with pytest.raises(DocumentError, match=r"`smal`.*`small`") as caught:
        window_of(catalog(), "smal")

    assert caught.value.code == "model_not_found"


def test_tokens_are_counted_text_by_text() -> None:
    count = counting(COUNTER, "gpt-4o", None)

    assert count(["hello world", "", "hello"]) == [2, 0, 1]
