from typing import Any

import pytest
from pydantic import ValidationError

from llmgateway.documents_api.entities.fields import FlavorChange, NewFlavor, Settings
from llmgateway.flavor import FailoverOn, Flavor


def test_everything_that_can_be_set_of_a_flavor_can_be_sent() -> None:
    assert set(Flavor.__struct_fields__) - {"model"} == Settings.model_fields.keys()


def test_what_is_not_sent_has_the_same_default_in_both_places() -> None:
    made = NewFlavor(name="x", model="chat")

    assert made.settings("iterative") == Flavor(model="chat")
    plain = {name: getattr(Settings(), name) for name in Settings.model_fields if name != "failover_on"}
    assert plain == {name: getattr(Flavor(model="chat"), name) for name in plain}


def test_a_change_replaces_what_it_names_and_clears_with_null() -> None:
    before = Flavor(model="chat", temperature=1, max_cost_usd=2, failover_on=FailoverOn(timeout=False))
    body = FlavorChange.model_validate_json('{"max_cost_usd": null, "failover_on": {"content_filter": true}}')

    after = body.over(before)

    assert (after.temperature, after.max_cost_usd) == (1, None)
    assert after.failover_on == FailoverOn(timeout=False, content_filter=True)


@pytest.mark.parametrize("name", ["Model", "API_KEY", "Api_Base", "x-url", "proxy", "auth_token", "aws_secret"])
def test_a_parameter_that_says_where_a_call_goes_or_who_pays_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be set here"):
        FlavorChange.model_validate({"custom_params": {name: "x"}})


@pytest.mark.parametrize("name", ["seed", "logit_bias", "prompt_cache_key", "reasoning_effort", "top_k", "min_p"])
def test_a_parameter_of_the_model_is_taken(name: str) -> None:
    assert FlavorChange.model_validate({"custom_params": {name: 1}}).custom_params == {name: 1}


@pytest.mark.parametrize("value", ["0.5", True, None, float("nan")])
def test_a_number_is_a_number(value: Any) -> None:
    with pytest.raises(ValidationError):
        FlavorChange.model_validate({"temperature": value}, strict=True)
