import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmgateway.settings import OTHER_NAMES, Settings, SettingsError, fields, load_settings, name_of, secret_values
from llmgateway.settings.fields import is_secret

EXAMPLE = Path(__file__).resolve().parent.parent.parent / ".env.example"
SETTINGS = dict(fields())


def written() -> dict[str, str]:
    return dict(re.findall(r"^# (LLMGATEWAY_\w+)=(.*)$", EXAMPLE.read_text("utf-8"), re.MULTILINE))


def shown(field: Any) -> str:
    if field.default is None or field.default == ():
        return str(field.examples[0])
    return str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}".removesuffix(".0")


def test_env_example_names_every_setting_and_no_other() -> None:
    assert set(written()) == {name_of(path) for path in SETTINGS}


@pytest.mark.parametrize("path", SETTINGS)
def test_env_example_shows_default_and_purpose(path: str) -> None:
    field = SETTINGS[path]

    assert written()[name_of(path)] == shown(field)
    assert f"# {field.description}\n# {name_of(path)}=" in EXAMPLE.read_text("utf-8")


def test_env_example_names_what_is_read_of_other_gateways() -> None:
    text = EXAMPLE.read_text("utf-8")

    assert [name for group in OTHER_NAMES.values() for name in group if name not in text] == []


def test_env_example_is_right_when_every_line_is_used() -> None:
    settings = load_settings(written())

    assert settings.limits_enabled
    assert settings.effective_queue_url == "amqp://queue:5672"


def test_settings_may_be_made_in_a_program_too() -> None:
    assert Settings(port=0, cors_origins=("https://a.example",)).cors_origins == ("https://a.example",)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings({}).port = 1


def test_limits_are_on_with_an_auth_mode_unless_said_otherwise() -> None:
    assert not load_settings({}).limits_enabled
    assert load_settings({"LLMGATEWAY_AUTH__MODE": "client"}).limits_enabled
    assert not load_settings({"LLMGATEWAY_AUTH__MODE": "client", "RATE_LIMITING_ENABLED": "false"}).limits_enabled


def test_the_queue_is_redis_when_none_is_named() -> None:
    assert load_settings({"REDIS_URL": "redis://r"}).effective_queue_url == "redis://r"


@pytest.mark.parametrize(("host", "wider"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])  # noqa: S104  # values
def test_binding_wider_than_this_machine_is_known(host: str, wider: bool) -> None:
    assert load_settings({"LLMGATEWAY_HOST": host}).binds_wider is wider


def test_everything_that_names_a_key_or_login_is_secret() -> None:
    secret = {path for path, field in SETTINGS.items() if is_secret(field)}

    assert secret == {path for path in SETTINGS if re.search(r"_keys?$|_url$", path)}
    assert all(field.repr is False for path, field in SETTINGS.items() if path in secret)
    assert set(Settings.model_fields) > {"otel", "sources"}


def test_every_secret_is_known_to_whoever_hides_them() -> None:
    settings = load_settings(
        {
            "LLMGATEWAY_ADMIN_KEY": "admin-1",
            "LLMGATEWAY_AUTH__GATEWAY_KEYS": "first-1,second-1",
            "DATABASE_URL": "postgresql://user:p%40ss@db:5432/gateway",
            "REDIS_URL": "redis://redis:6379/0",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20collector-1, x-team=blue",
        }
    )

    found = set(secret_values(settings))

    assert found == {"admin-1", "first-1", "second-1", "p@ss", "Bearer collector-1", "blue"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"EMP-\d{2,6}", (r"EMP-\d{2,6}",)),
        ("EMP-\\d{2,6}\n  ACME-[A-Z]{2,8}\n\n", (r"EMP-\d{2,6}", "ACME-[A-Z]{2,8}")),
        (r'["EMP-\\d{2,6}", "[A-Z], \\d"]', (r"EMP-\d{2,6}", r"[A-Z], \d")),
        (r"[A-Z]{3},\d", (r"[A-Z]{3},\d",)),
    ],
)
def test_an_expression_keeps_its_commas(written: str, meant: tuple[str, ...]) -> None:
    assert load_settings({"LLMGATEWAY_SENSITIVITY__PATTERNS": written}).sensitivity.patterns == meant


@pytest.mark.parametrize("written", [r'["EMP-\d{6}"]', '["EMP-1", 2]', '["a",]', '[""]'])
def test_a_broken_list_of_expressions_is_a_fault_and_never_an_expression(written: str) -> None:
    with pytest.raises(SettingsError, match="LLMGATEWAY_SENSITIVITY__PATTERNS"):
        load_settings({"LLMGATEWAY_SENSITIVITY__PATTERNS": written})
