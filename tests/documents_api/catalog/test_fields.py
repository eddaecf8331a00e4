import pytest

from llmgateway.documents_api.catalog.fields import (
    ModelFields,
    NewProviderFields,
    PricesFields,
    limits_shown,
    model_told,
    provider_told,
)
from tests.documents_api.catalog.rows import deployment


@pytest.mark.parametrize(("level", "name"), [(0, "low"), (1, "medium"), (2, "high"), ("high", "high")])
def test_a_level_is_its_name_or_its_place(level: object, name: str) -> None:
    body = NewProviderFields.model_validate({"name": "a", "provider_type": "openai", "security_level": level})

    assert provider_told(body) == {"name": "a", "provider": "openai", "security_level": name}


def test_prices_of_one_token_are_told_for_a_million_without_an_error_of_binary() -> None:
    body = ModelFields(prices=PricesFields(input=0.00000255, output=0.0, reasoning=1e-05))

    assert model_told(body) == {"prices_per_million": {"input": 2.55, "output": 0.0, "reasoning": 10.0}}


def test_null_is_told_as_null() -> None:
    assert model_told(ModelFields(prices=None, max_generation_length=None)) == {
        "prices_per_million": None,
        "max_output_tokens": None,
    }


def test_what_is_not_served_yet_shows_what_was_given() -> None:
    shown = limits_shown(deployment(context_length=5), None)

    assert (shown["context_length"], shown["limits_source"], shown["max_generation_source"]) == (
        5,
        "given",
        "estimated",
    )
    assert shown["prices"] is None
