from llmgateway.settings import load_settings, unsafe, warnings, without_effect


def test_settings_whose_part_is_not_built_are_named_as_they_were_written() -> None:
    settings = load_settings(
        {
            "CACHE_TTL": "60",
            "LLMGATEWAY_RETRY__JOBS__MAX_RETRIES": "3",
            "LLMGATEWAY_AUDIT__CONTENT": "full",
            "LLMGATEWAY_ADMIN_KEY": "k",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
            "OTEL_SERVICE_NAME": "gate",
            "LLMGATEWAY_RETRY__MAX_RETRIES": "3",
            "LLMGATEWAY_PORT": "80",
        }
    )

    assert without_effect(settings) == [
        "LLMGATEWAY_AUDIT__CONTENT",
    ]


def test_defaults_are_without_fault_or_remark() -> None:
    settings = load_settings({})

    assert (without_effect(settings), unsafe(settings), warnings(settings)) == ([], [], [])


def test_shared_keys_that_are_missing_or_short_are_unsafe() -> None:
    mode = {"LLMGATEWAY_AUTH__MODE": "gateway"}

    assert "LLMGATEWAY_AUTH__GATEWAY_KEYS" in unsafe(load_settings(mode))[0]
    (short,) = unsafe(load_settings({**mode, "LLMGATEWAY_AUTH__GATEWAY_KEYS": f"{'k' * 16},secret-1"}))
    assert "at least 16 characters" in short
    assert "secret-1" not in short
    assert unsafe(load_settings({**mode, "LLMGATEWAY_AUTH__GATEWAY_KEYS": "k" * 16})) == []
    assert unsafe(load_settings({"LLMGATEWAY_AUTH__MODE": "client"})) == []


def test_an_admin_key_that_others_have_for_another_purpose_is_unsafe() -> None:
    shared = {"LLMGATEWAY_ADMIN_KEY": "k" * 32, "LLMGATEWAY_METRICS_KEY": "k" * 32}

    (reason,) = unsafe(load_settings(shared))
    assert "LLMGATEWAY_METRICS_KEY" in reason
    assert "kkk" not in reason
    assert unsafe(load_settings({**shared, "LLMGATEWAY_METRICS_KEY": "m" * 32})) == []


def test_keys_that_nobody_looks_at_and_answers_that_everybody_shares_are_warned_of() -> None:
    (unused,) = warnings(load_settings({"LLMGATEWAY_AUTH__GATEWAY_KEYS": "k" * 16}))
    (shared,) = warnings(load_settings({"LLMGATEWAY_AUTH__MODE": "client", "LLMGATEWAY_CACHE__SCOPE": "global"}))

    assert "LLMGATEWAY_AUTH__GATEWAY_KEYS: not looked at" in unused
    assert "LLMGATEWAY_CACHE__SCOPE=global" in shared


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
