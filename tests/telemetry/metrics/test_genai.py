import pytest

from llmgateway.exchange import Exchange, Usage
from llmgateway.telemetry.metrics import Metrics
from llmgateway.telemetry.metrics.genai import GenAI
from tests.telemetry.exchanges import MAIN, SPARE, ended

Points = dict[frozenset[tuple[str, str]], tuple[int, object]]


def measured(*exchanges: Exchange) -> dict[str, Points]:
    metrics = Metrics("1")
    genai = GenAI(metrics.series)
    for exchange in exchanges:
        metrics.record(exchange)
        genai.record(exchange)
    return {
        one.name: {
            frozenset(attributes.items()): (sum(counts), pytest.approx(total))
            for attributes, (counts, total) in one.points
        }
        for one in genai.measured()
    }


def point(**attributes: str) -> frozenset[tuple[str, str]]:
    names = {
        "operation": "gen_ai.operation.name",
        "provider": "gen_ai.provider.name",
        "model": "gen_ai.request.model",
        "error": "error.type",
        "token": "gen_ai.token.type",
    }
    given = {"operation": "chat", "provider": "openai", "model": "chat"} | attributes
    return frozenset((names[name], value) for name, value in given.items())


def test_a_stream_has_all_six() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=11)

    found = measured(ended((MAIN, 1.5, "ok"), took_s=2.0, first_chunk_s=1.0, stream=True, usage=usage))

    assert found == {
        "gen_ai.client.operation.duration": {point(): (1, 1.5)},
        "gen_ai.client.operation.time_to_first_chunk": {point(): (1, 0.5)},
        "gen_ai.client.token.usage": {point(token="input"): (1, 10), point(token="output"): (1, 11)},  # noqa: S106
        "gen_ai.server.request.duration": {point(): (1, 2.0)},
        "gen_ai.server.time_to_first_token": {point(): (1, 1.0)},
        "gen_ai.server.time_per_output_token": {point(): (1, 0.1)},
    }


def test_an_error_is_named_and_each_attempt_counts() -> None:
    failed = "provider_unavailable"

    found = measured(
        ended((MAIN, 0.5, failed), (SPARE, 1.0, "ok"), took_s=2.0),
        ended((MAIN, 0.5, "their-own-code"), status=400, error_code="their-own-code"),
        ended(status=404, error_code="model_not_found", model_label="other"),
    )

    assert found["gen_ai.client.operation.duration"] == {
        point(error=failed): (1, 0.5),
        point(provider="anthropic"): (1, 1.0),
        point(error="other"): (1, 0.5),
    }
    assert found["gen_ai.server.request.duration"] == {
        point(provider="anthropic"): (1, 2.0),
        point(error="other"): (1, 2.0),
        point(provider="llmgateway", model="other", error="model_not_found"): (1, 2.0),
    }
    assert found["gen_ai.client.token.usage"] == {}


def test_what_has_not_ended_is_not_counted() -> None:
    assert not any(measured(ended((MAIN, 1.0, "ok"), ended=None)).values())
    assert measured(ended((MAIN, 0.5, "ok"), (MAIN, 0.5, "ok")))["gen_ai.client.operation.duration"] == {
        point(): (2, 1.0)
    }


def test_operations_have_the_conventions_names() -> None:
    found = measured(
        ended((MAIN, 1.0, "ok"), operation="embedding", usage=Usage(7, 0)),
        ended((MAIN, 1.0, "ok"), operation="completion"),
        ended(operation=None),
    )

    assert found["gen_ai.client.token.usage"] == {point(operation="embeddings", token="input"): (1, 7)}  # noqa: S106
    assert set(found["gen_ai.server.request.duration"]) == {
        point(operation="embeddings"),
        point(operation="text_completion"),
    }
