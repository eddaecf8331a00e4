import time

from llmgateway.catalog.nearest import Nearest


def test_a_slip_of_the_finger_finds_the_name_first() -> None:
    names = Nearest(["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "mistral/mistral-large-latest"])

    assert names.find("gpt-4o-mni", 2) == ["gpt-4o-mini", "gpt-4o"]
    assert names.find("Claude-Sonet-4-5", 1) == ["claude-sonnet-4-5"]
    assert names.find("mistral-large", 1) == ["mistral/mistral-large-latest"]


def test_no_more_than_asked_for_and_none_from_none() -> None:
    assert len(Nearest([f"model-{n}" for n in range(50)]).find("model", 10)) == 10
    assert Nearest([]).find("x", 10) == []


def test_a_made_up_name_of_any_length_costs_little() -> None:
    names = Nearest([f"provider-{n % 9}/family-{n}-instruct-v{n}" for n in range(3000)])

    started = time.process_time()
    names.find("x-" * 500_000, 10)

    assert time.process_time() - started < 0.2
