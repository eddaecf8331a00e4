from llmgateway.settings import load_settings, unsafe, warnings, without_effect


def test_settings_whose_part_is_not_built_are_named_as_they_were_written() -> None:
    settings = load_settings(
        {
            "CACHE_TTL": "60",
            "LLMGATEWAY_RETRY__JOBS__MAX_RETRIES": "3",
            "LLMGATEWAY_ADMIN_KEY": "k",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
            "OTEL_SERVICE_NAME": "gate",
            "LLMGATEWAY_RETRY__MAX_RETRIES": "3",
            "LLMGATEWAY_PORT": "80",
        }
    )

    assert without_effect(settings) == [
        "CACHE_TTL",
        "LLMGATEWAY_ADMIN_KEY",
        "LLMGATEWAY_RETRY__JOBS__MAX_RETRIES",
    ]


def test_defaults_are_without_fault_or_remark() -> None:
    settings = load_settings({})

    assert (without_effect(settings), unsafe(settings), warnings(settings)) == ([], [], [])


def test_an_auth_mode_that_is_not_kept_is_unsafe() -> None:
    reasons = unsafe(load_settings({"LLMGATEWAY_AUTH__MODE": "gateway", "LLMGATEWAY_AUTH__GATEWAY_KEYS": "secret-1"}))

    assert len(reasons) == 1
    assert "LLMGATEWAY_AUTH__MODE=gateway" in reasons[0]
    assert "secret-1" not in reasons[0]


def test_pitfall_134_a_short_admin_key_is_unsafe_where_others_can_reach_it() -> None:
    wider = {"LLMGATEWAY_HOST": "0.0.0.0"}  # noqa: S104  # a setting's value, nothing listens

    assert "LLMGATEWAY_ADMIN_KEY" in unsafe(load_settings({**wider, "LLMGATEWAY_ADMIN_KEY": "admin"}))[0]
    assert unsafe(load_settings({**wider, "LLMGATEWAY_ADMIN_KEY": "k" * 32})) == []
    assert unsafe(load_settings({"LLMGATEWAY_ADMIN_KEY": "admin"})) == []


def test_postgresql_without_encryption_keys_is_unsafe() -> None:
    database = {"DATABASE_URL": "postgresql://db/x"}

    assert "LLMGATEWAY_ENCRYPTION_KEYS" in unsafe(load_settings(database))[0]
    assert unsafe(load_settings({**database, "ENCRYPTION_KEY": "k"})) == []


def test_serving_others_without_keys_and_workers_without_redis_are_warned_of() -> None:
    found = warnings(load_settings({"LLMGATEWAY_HOST": "10.0.0.1", "LLMGATEWAY_WORKERS": "4"}))

    assert "10.0.0.1" in found[0]
    assert "every limit counts 4 times" in found[1]
    assert warnings(load_settings({"LLMGATEWAY_WORKERS": "4", "REDIS_URL": "redis://r"})) == []
