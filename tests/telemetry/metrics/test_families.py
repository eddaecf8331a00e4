import re

from llmgateway.telemetry.metrics.families import FAMILIES, GENAI, TOKENS

IDENTIFYING = {"user", "key", "key_id", "organization", "organization_id", "client", "request_id", "path"}

# Of jobs the organization is told, and no more of who ordered them.
BY_ORGANIZATION = {"llm_job_tokens_total": {"organization"}, "llm_job_cost_usd_total": {"organization"}}


def test_names_follow_prometheus_conventions() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"(llm|process)_[a-z0-9_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not family.name.endswith(("_ms", "_milliseconds")), family.name
        assert (family.kind == "histogram") == bool(family.buckets), family.name


def test_names_are_given_once_and_each_says_what_it_is() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert len({family.help for family in FAMILIES + GENAI}) == len(FAMILIES + GENAI)


def test_no_label_tells_who_called() -> None:
    telling = {family.name: IDENTIFYING & set(family.labels) for family in FAMILIES + GENAI}

    assert {name: labels for name, labels in telling.items() if labels} == BY_ORGANIZATION


def test_buckets_rise() -> None:
    for family in FAMILIES + GENAI:
        assert list(family.buckets) == sorted(set(family.buckets)), family.name


def test_token_buckets_are_those_of_the_conventions() -> None:
    assert TOKENS[:4] == (1.0, 4.0, 16.0, 64.0)
    assert TOKENS[-1] == 67_108_864.0
    assert len(TOKENS) == 14
