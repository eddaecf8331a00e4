import re
from pathlib import Path

import pytest

from llmgateway.settings import OTHER_NAMES, Settings, SettingsError, environment, fields, load_settings
from llmgateway.settings.names import OTHER_KEY_NAMES

CONTRACT = Path(__file__).resolve().parent.parent.parent / "docs" / "contract" / "config.md"

READ = {
    "PORT": ("9", "port", 9),
    "GATEWAY_PORT": ("9", "port", 9),
    "LLM_GATEWAY_PORT": ("9", "port", 9),
    "LLM_GATEWAY_HOST": ("0.0.0.0", "host", "0.0.0.0"),  # noqa: S104  # a setting's value, nothing listens
    "DATABASE_URL": ("postgresql://db/x", "database_url", "postgresql://db/x"),
    "REDIS_URL": ("redis://r", "redis_url", "redis://r"),
    "SERVICES_BROKER": ("amqp://q", "queue_url", "amqp://q"),
    "CELERY_WORKERS": ("3", "worker_threads", 3),
    "CORS_ORIGINS": ("*", "cors_origins", ("*",)),
    "API_MAX_RETRIES": ("4", "retry.max_retries", 4),
    "MAX_RETRIES": ("4", "retry.max_retries", 4),
    "API_RETRY_MIN_DELAY": ("2", "retry.min_delay_s", 2.0),
    "API_RETRY_MAX_DELAY": ("9", "retry.max_delay_s", 9.0),
    "INITIAL_BACKOFF": ("250", "retry.min_delay_s", 0.25),
    "MAX_BACKOFF": ("8000", "retry.max_delay_s", 8.0),
    "BACKOFF_FACTOR": ("3", "retry.factor", 3.0),
    "JITTER": ("false", "retry.jitter", False),
    "REQUEST_TIMEOUT": ("60000", "request_timeout_s", 60.0),
    "MAX_CONCURRENT_REQUESTS": ("7", "max_concurrent_requests", 7),
    "CACHE_ENABLED": ("false", "cache.enabled", False),
    "CACHE_TTL": ("60", "cache.ttl_s", 60.0),
    "CACHE_DEFAULT_TTL": ("60", "cache.ttl_s", 60.0),
    "CACHE_MAX_SIZE": ("100", "cache.max_entries", 100),
    "RATE_LIMITING_ENABLED": ("true", "limits.enabled", True),
    "RATE_LIMIT_REQUESTS_PER_MINUTE": ("60", "limits.requests_per_minute", 60),
    "RATE_LIMIT_REQUESTS_PER_HOUR": ("600", "limits.requests_per_hour", 600),
    "RATE_LIMIT_TOKENS_PER_MINUTE": ("1000", "limits.tokens_per_minute", 1000),
    "RATE_LIMIT_BURST_LIMIT": ("5", "limits.burst", 5),
    "RATE_LIMIT_COOLDOWN_SECONDS": ("30", "limits.cooldown_s", 30.0),
    "SENSITIVE_KEYWORDS": ("a,b", "sensitivity.keywords", ("a", "b")),
    "SENSITIVITY_THRESHOLD": ("0.5", "sensitivity.threshold", 0.5),
    "SECURE_ONLY_MODELS": ("m", "sensitivity.secure_only_models", ("m",)),
    "OPENAI_USE_RESPONSES_API": ("true", "openai_use_responses_api", True),
}


def value_at(settings: Settings, path: str) -> object:
    value: object = settings
    for step in path.split("."):
        value = getattr(value, step)
    return value


@pytest.mark.parametrize("name", READ)
def test_a_name_of_another_gateway_is_read_in_its_own_unit(name: str) -> None:
    text, path, value = READ[name]

    assert value_at(load_settings({name: text}), path) == value


def test_every_name_in_the_table_is_tried_above() -> None:
    names = {name for group in OTHER_NAMES.values() for name in group}

    assert names == {*READ, "ENCRYPTION_KEY"}
    assert load_settings({"ENCRYPTION_KEY": "k"}).encryption_keys[0].get_secret_value() == "k"
    assert set(OTHER_NAMES) <= {path for path, _ in fields()}


def test_every_name_the_contract_promises_is_in_a_table() -> None:
    section = CONTRACT.read_text("utf-8").partition("## 4.")[2].partition("\n")[2]
    promised = set(re.findall(r"`([A-Z_]+)`", section))

    assert len(promised) > 25
    assert promised <= {name for group in OTHER_NAMES.values() for name in group} | set(OTHER_KEY_NAMES)


def test_a_name_set_twice_differently_is_a_fault_that_names_both() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(
            {
                "LLMGATEWAY_PORT": "1",
                "PORT": "2",
                "CACHE_TTL": "60",
                "CACHE_DEFAULT_TTL": "61",
                "API_RETRY_MIN_DELAY": "1",
                "INITIAL_BACKOFF": "500",
                "CLAUDE_API_KEY": "a",
                "ANTHROPIC_API_KEY": "b",
            }
        )

    faults = "\n".join(caught.value.faults)
    assert "LLMGATEWAY_PORT and PORT are both set and differ" in faults
    assert "CACHE_TTL and CACHE_DEFAULT_TTL" in faults
    assert "API_RETRY_MIN_DELAY and INITIAL_BACKOFF" in faults
    assert "CLAUDE_API_KEY and ANTHROPIC_API_KEY" in faults


def test_a_name_set_twice_alike_is_fine_whatever_the_unit_and_spelling() -> None:
    settings = load_settings(
        {
            "API_RETRY_MIN_DELAY": "0.5",
            "INITIAL_BACKOFF": "500",
            "LLMGATEWAY_CACHE__ENABLED": "off",
            "CACHE_ENABLED": "False",
            "LLMGATEWAY_RETRY__JITTER": "yes",
            "JITTER": "1",
            "LLMGATEWAY_HOST": "::1",
            "LLM_GATEWAY_HOST": "::1",
        }
    )

    assert settings.retry.min_delay_s == 0.5
    assert settings.cache.enabled is False


def test_a_value_without_its_unit_is_a_fault() -> None:
    with pytest.raises(SettingsError, match=r"REQUEST_TIMEOUT: '60s' is not a number; milliseconds"):
        load_settings({"REQUEST_TIMEOUT": "60s"})


def test_another_name_of_a_key_is_read_as_the_usual_one() -> None:
    assert environment({"CLAUDE_API_KEY": "k"}, None)["ANTHROPIC_API_KEY"] == "k"
