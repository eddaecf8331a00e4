"""Real providers, with the keys that are set: `pytest -m integration`. Never by default."""

from collections.abc import Iterator, Mapping

import openai
import pytest

from llmgateway.settings import environment
from scripts import try_providers
from scripts.try_providers import STEPS, TRIALS, Trial

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def environ() -> Mapping[str, str]:
    return environment()


@pytest.fixture(scope="module")
def client(environ: Mapping[str, str]) -> Iterator[openai.OpenAI]:
    with try_providers.gateway(environ) as client:
        yield client


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.provider)
def test_provider_answers(trial: Trial, step: str, client: openai.OpenAI, environ: Mapping[str, str]) -> None:
    if missing := trial.missing(environ):
        pytest.skip(f"set {' and '.join(missing)}")

    assert STEPS[step](client, trial.model)
