import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmgateway.settings import SettingsError, environment, load_settings, read_environment


def faults_of(environ: Mapping[str, str], env_file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, env_file)
    return "\n".join(caught.value.faults)


def test_nothing_set_gives_the_defaults_of_the_contract() -> None:
    settings = load_settings({})

    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.max_body_bytes == 20 * 1024**2
    assert settings.max_inflight_body_bytes == 512 * 1024**2
    assert (settings.request_timeout_s, settings.first_token_timeout_s) == (590, 300)
    assert (settings.stream_idle_timeout_s, settings.stream_commit_after_s) == (60, 15)
    assert (settings.connect_timeout_s, settings.shutdown_grace_s) == (5, 30)
    assert settings.max_concurrent_requests == 4000
    assert (settings.retry.max_retries, settings.retry.min_delay_s, settings.retry.max_delay_s) == (2, 0.5, 30)
    assert (settings.retry.jobs.max_retries, settings.retry.jobs.max_delay_s) == (6, 60)
    assert (settings.cache.mode, settings.cache.ttl_s, settings.cache.max_bytes) == (
        "deterministic",
        3600,
        256 * 1024**2,
    )
    assert settings.idempotency.ttl_s == 86_400
    assert (settings.sensitivity.threshold, settings.sensitivity.action) == (0.7, "reroute")
    assert (settings.auth.mode, settings.audit.content, settings.catalog) == ("none", "none", Path("gateway.yaml"))


def test_nested_names_lists_and_numbers_are_read() -> None:
    settings = load_settings(
        {
            "LLMGATEWAY_RETRY__JOBS__MIN_DELAY_S": "2.5",
            "LLMGATEWAY_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "LLMGATEWAY_AUTH__GATEWAY_KEYS": "one,two",
            "LLMGATEWAY_CACHE__ENABLED": "no",
            "OTEL_SERVICE_NAME": "gate",
        }
    )

    assert settings.retry.jobs.min_delay_s == 2.5
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert [key.get_secret_value() for key in settings.auth.gateway_keys] == ["one", "two"]
    assert settings.cache.enabled is False
    assert settings.otel == {"OTEL_SERVICE_NAME": "gate"}


def test_all_faults_are_told_at_once() -> None:
    faults = faults_of(
        {
            "LLMGATEWAY_PORT": "abc",
            "LLMGATEWAY_WORKERS": "0",
            "LLMGATEWAY_AUTH__MODE": "open",
            "LLMGATEWAY_REQUEST_TIMEOUT_S": "nan",
            "LLMGATEWAY_CORS_ORIGINS": "example.com",
        }
    )

    assert "LLMGATEWAY_PORT: 'abc': input should be a valid integer" in faults
    assert "for example 8000" in faults
    assert "LLMGATEWAY_WORKERS" in faults
    assert "'none', 'gateway', 'client' or 'hybrid'" in faults
    assert "LLMGATEWAY_REQUEST_TIMEOUT_S" in faults
    assert "LLMGATEWAY_CORS_ORIGINS: 'example.com'" in faults


def test_pitfall_030_an_unknown_name_is_a_fault_with_the_nearest_one() -> None:
    faults = faults_of({"LLMGATEWAY_RETRY__MAX_RETRYS": "3", "LLMGATEWAY_ADMIN_KEYFILE": "x"})

    assert (
        "LLMGATEWAY_RETRY__MAX_RETRYS: there is no such setting; the nearest is LLMGATEWAY_RETRY__MAX_RETRIES" in faults
    )
    assert "the nearest is LLMGATEWAY_ADMIN_KEY_FILE" in faults


def test_a_secret_value_is_never_shown() -> None:
    canary = "canary-5f2b"

    faults = faults_of(
        {
            "LLMGATEWAY_REDIS_URL": f"http://user:{canary}@redis",
            "LLMGATEWAY_DATABASE_URL": f"mysql://u:{canary}@db",
            "LLMGATEWAY_PORT": "x",
        }
    )
    settings = load_settings({"LLMGATEWAY_ADMIN_KEY": canary, "LLMGATEWAY_REDIS_URL": f"redis://:{canary}@redis"})

    assert "LLMGATEWAY_REDIS_URL" in faults
    assert "LLMGATEWAY_DATABASE_URL" in faults
    assert canary not in faults + repr(settings) + str(settings)


def test_an_empty_value_counts_as_unset() -> None:
    assert load_settings({"LLMGATEWAY_PORT": "", "LLMGATEWAY_ADMIN_KEY": "  "}).port == 8000


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-a-file\n")

    settings = load_settings({"LLMGATEWAY_ADMIN_KEY_FILE": str(file)})
    environ = environment({"OPENAI_API_KEY_FILE": str(file), "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"}, None)

    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == "from-a-file"
    assert environ["OPENAI_API_KEY"] == "from-a-file"
    assert "AWS_WEB_IDENTITY_TOKEN" not in environ


def test_a_secret_file_that_is_not_there_or_contradicts_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("other")

    faults = faults_of(
        {
            "LLMGATEWAY_ADMIN_KEY_FILE": str(tmp_path / "gone"),
            "GROQ_API_KEY_FILE": str(file),
            "GROQ_API_KEY": "this",
        }
    )

    assert "LLMGATEWAY_ADMIN_KEY_FILE: the file cannot be read (FileNotFoundError)" in faults
    assert "GROQ_API_KEY and GROQ_API_KEY_FILE are both set, to different values" in faults
    with pytest.raises(SettingsError):
        environment({"LLMGATEWAY_ADMIN_KEY_FILE": str(tmp_path / "gone")}, None)


def test_env_file_is_read_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(
        'LLMGATEWAY_PORT=9000\nexport LLMGATEWAY_HOST="10.0.0.1"  # inside\nGROQ_API_KEY=${not}expanded\n'
    )

    settings = load_settings({"LLMGATEWAY_PORT": "9001"}, env_file)

    assert (settings.port, settings.host) == (9001, "10.0.0.1")
    assert environment({}, env_file)["GROQ_API_KEY"] == "${not}expanded"
    assert load_settings({}, tmp_path / "gone").port == 8000


def test_the_environment_of_this_very_process_is_the_default() -> None:
    merged, faults = read_environment(None, None)

    assert merged["PATH"] == os.environ["PATH"].strip()  # noqa: TID251  # it is what must come back
    assert faults == []


def test_settings_that_contradict_each_other_are_faults() -> None:
    faults = faults_of(
        {
            "LLMGATEWAY_RETRY__MIN_DELAY_S": "40",
            "LLMGATEWAY_RETRY__JOBS__MAX_DELAY_S": "0.1",
            "LLMGATEWAY_MAX_BODY_BYTES": "1000",
            "LLMGATEWAY_MAX_INFLIGHT_BODY_BYTES": "10",
        }
    )

    assert "LLMGATEWAY_RETRY__MIN_DELAY_S (40) is more than LLMGATEWAY_RETRY__MAX_DELAY_S (30)" in faults
    assert "LLMGATEWAY_RETRY__JOBS__MIN_DELAY_S (1) is more than" in faults
    assert "LLMGATEWAY_MAX_BODY_BYTES is more than LLMGATEWAY_MAX_INFLIGHT_BODY_BYTES" in faults
