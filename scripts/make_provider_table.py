"""Write `src/llmgateway/catalog/providers.json`: what LiteLLM says about every provider it knows.

How each is spoken to, where, and which environment names hold address and key. The gateway reads the table instead
of LiteLLM, so that a relayed call never waits for LiteLLM's import. Run it again after LiteLLM was updated:
`python scripts/make_provider_table.py`, or with `--check` to compare only. A test does the latter.

Names are found by asking: `litellm.get_llm_provider` runs in an environment that notes what is looked up; then each
noted name is set in turn, and what changes in the answer (address or key) says what the name is for.
"""

# ruff: noqa: TID251  # what LiteLLM reads from the environment is the very question

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "src" / "llmgateway" / "catalog" / "providers.json"
# Fields of OpenAI's that some providers know by another name.
_NUMBERS = ("max_completion_tokens", "max_tokens", "seed", "n", "logprobs", "top_logprobs")
_SENTINEL = "https://sentinel.invalid"

# Their key comes out of a login in a browser, or the model's name decides about address and protocol.
NOT_RELAYED = {"github_copilot", "chatgpt", "azure_ai", "ragflow", "clarifai", "anyscale"}
# OpenAI's wire as well, though LiteLLM keeps them outside its list. Mistral's quirks are in messages (no `name`) and
# the value `any` for `tool_choice: required`, which its API takes under both names by now.
RELAYED_TOO = {"openai", "openrouter", "mistral", "custom_openai", "nadir", "ovhcloud", "minimax", "compactifai"}
# How LiteLLM's code looks when it takes an address out of a model's name.
_ADDRESS_IN_MODEL = re.compile(r"""model\.startswith\(\(?"https?:|"https?(://)?" in model\b""")
# Local servers: an address is enough.
KEYLESS = {
    "custom_openai",
    "ollama",
    "ollama_chat",
    "hosted_vllm",
    "lm_studio",
    "llamafile",
    "docker_model_runner",
    "xinference",
    "vllm",
}

# Making their configuration already asks for credentials, or a login.
NO_CONFIG = {"sap": ["chat"], "github_copilot": ["chat"], "chatgpt": ["chat"]}

# What LiteLLM keeps in code no function shows: first the usual name. `_missing_in_code` looks for each in its sources.
IN_CODE: dict[str, dict[str, Any]] = {
    "openai": {
        "api_base": "https://api.openai.com/v1",
        "address_env": ["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        "key_env": ["OPENAI_API_KEY"],
    },
    "openrouter": {
        "api_base": "https://openrouter.ai/api/v1",
        "address_env": ["OPENROUTER_API_BASE"],
        "key_env": ["OPENROUTER_API_KEY", "OR_API_KEY"],
    },
    "anthropic": {"address_env": ["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"], "key_env": ["ANTHROPIC_API_KEY"]},
    "gemini": {"address_env": ["GEMINI_API_BASE"], "key_env": ["GEMINI_API_KEY", "GOOGLE_API_KEY"]},
    "cohere": {"address_env": ["COHERE_API_BASE"], "key_env": ["COHERE_API_KEY", "CO_API_KEY"]},
    "azure": {"address_env": ["AZURE_API_BASE"], "key_env": ["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"]},
    "ollama_chat": {
        "api_base": "http://localhost:11434",
        "address_env": ["OLLAMA_API_BASE"],
        "key_env": ["OLLAMA_API_KEY"],
    },
    "cloudflare": {"address_env": ["CLOUDFLARE_API_BASE"], "key_env": ["CLOUDFLARE_API_KEY"]},
    "databricks": {"address_env": ["DATABRICKS_API_BASE"], "key_env": ["DATABRICKS_API_KEY"]},
    "watsonx": {"address_env": ["WATSONX_API_BASE", "WATSONX_URL"], "key_env": ["WATSONX_API_KEY", "WATSONX_APIKEY"]},
    "replicate": {"key_env": ["REPLICATE_API_KEY", "REPLICATE_API_TOKEN"]},
    "minimax": {
        "api_base": "https://api.minimax.io/v1",
        "address_env": ["MINIMAX_API_BASE"],
        "key_env": ["MINIMAX_API_KEY"],
    },
    "ovhcloud": {
        "api_base": "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        "key_env": ["OVHCLOUD_API_KEY"],
    },
    "compactifai": {"api_base": "https://api.compactif.ai/v1", "key_env": ["COMPACTIFAI_API_KEY"]},
    "cometapi": {
        "api_base": "https://api.cometapi.com/v1",
        "address_env": ["COMETAPI_BASE_URL", "COMETAPI_API_BASE"],
        "key_env": ["COMETAPI_KEY", "COMETAPI_API_KEY"],
    },
    "bedrock": {"key_env": ["AWS_BEARER_TOKEN_BEDROCK"]},
    "ai21": {"api_base": "https://api.ai21.com/studio/v1"},
    "voyage": {"key_env": ["VOYAGE_API_KEY"]},
}
# Names that LiteLLM does not read, but people have set.
READ_TOO: dict[str, dict[str, list[str]]] = {
    "anthropic": {"key_env": ["CLAUDE_API_KEY"]},
    "azure": {"address_env": ["AZURE_OPENAI_ENDPOINT"]},
    "mistral": {"address_env": ["MISTRAL_API_BASE", "MISTRAL_BASE_URL"]},
    "ollama": {"address_env": ["OLLAMA_ENDPOINT"]},
    "ollama_chat": {"address_env": ["OLLAMA_ENDPOINT"]},
    "xai": {"key_env": ["GROK_API_KEY"]},
}
# Not a key but a login made of several parts: LiteLLM's option -> the names it is read from. One of `any_of` is enough.
_AWS = {
    "aws_access_key_id": ["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": ["AWS_SECRET_ACCESS_KEY"],
    "aws_session_token": ["AWS_SESSION_TOKEN"],
    "aws_region_name": ["AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"],
    "aws_profile_name": ["AWS_PROFILE"],
}
_AWS_LOGINS = [
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
]
_VERTEX = {
    "vertex_project": ["VERTEXAI_PROJECT", "VERTEX_PROJECT", "GOOGLE_CLOUD_PROJECT"],
    "vertex_location": ["VERTEXAI_LOCATION", "VERTEX_LOCATION", "GOOGLE_CLOUD_LOCATION"],
    "vertex_credentials": ["VERTEXAI_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"],
}
LOGINS: dict[str, dict[str, Any]] = {
    "bedrock": {
        "any_of": _AWS_LOGINS,
        "options": {**_AWS, "aws_bedrock_runtime_endpoint": ["AWS_BEDROCK_RUNTIME_ENDPOINT"]},
    },
    "sagemaker": {"any_of": _AWS_LOGINS, "options": _AWS},
    "sagemaker_chat": {"any_of": _AWS_LOGINS, "options": _AWS},
    "vertex_ai": {"any_of": ["VERTEXAI_PROJECT", "VERTEX_PROJECT", "VERTEXAI_CREDENTIALS"], "options": _VERTEX},
}


class _NotingEnviron(type(os.environ)):  # type: ignore[misc]  # the class is only known at run time
    """The process's environment, which also notes every name that is looked up."""

    noted: list[str] | None = None

    def __getitem__(self, name: str) -> Any:
        if _NotingEnviron.noted is not None and name not in _NotingEnviron.noted:
            _NotingEnviron.noted.append(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


@contextmanager
def _noting() -> Iterator[list[str]]:
    noted: list[str] = []
    _NotingEnviron.noted = noted
    try:
        yield noted
    finally:
        _NotingEnviron.noted = None


def _empty_environment() -> None:
    for name in list(os.environ):
        if name not in {"PATH", "HOME", "LANG", "TMPDIR"} and not name.startswith(("COVERAGE", "PYTHON")):
            del os.environ[name]
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.__class__ = _NotingEnviron


def provider_table() -> dict[str, dict[str, Any]]:
    """Ask LiteLLM about all its providers. Empties this process's environment first: run it in a process of its own."""
    _empty_environment()
    from litellm.constants import openai_compatible_providers
    from litellm.llms.openai_like.json_loader import JSONProviderRegistry
    from litellm.types.utils import LlmProviders

    listed = set(JSONProviderRegistry.list_providers())
    relayed = ({*openai_compatible_providers} | listed | RELAYED_TOO) - NOT_RELAYED
    names = {provider.value for provider in LlmProviders} | relayed
    missing = _missing_in_code()
    if missing:
        raise SystemExit(
            f"LiteLLM's sources no longer hold {', '.join(missing)}: look what became of them, change IN_CODE"
        )
    return {name: _row(name, relayed) for name in sorted(names)}


@cache
def _sources() -> dict[Path, str]:
    import litellm

    folder = Path(litellm.__file__).parent
    paths = [
        folder / "main.py",
        folder / "utils.py",
        *(folder / "llms").rglob("*.py"),
        *folder.glob("*core_utils/*.py"),
    ]
    return {path.relative_to(folder): path.read_text("utf-8") for path in paths}


def _missing_in_code() -> list[str]:
    told = [row[key] for row in IN_CODE.values() for key in ("api_base", "address_env", "key_env") if key in row]
    words = {word for value in told for word in ([value] if isinstance(value, str) else value)}
    everything = "\n".join(_sources().values())
    return sorted(word for word in words if f'"{word}' not in everything)


@cache
def _address_in_model() -> set[str]:
    found = [path for path, text in _sources().items() if _ADDRESS_IN_MODEL.search(text)]
    return {path.parts[1] for path in found if path.parts[0] == "llms"}


def _row(name: str, relayed: set[str]) -> dict[str, Any]:
    import litellm

    asked = _asked(name)
    in_code, too, login = IN_CODE.get(name, {}), READ_TOO.get(name, {}), LOGINS.get(name, {})
    api_base = asked["api_base"] or in_code.get("api_base")
    keys = _once(in_code.get("key_env", []), asked["key_env"], too.get("key_env", []))
    stem = keys[0].removesuffix("_API_KEY") if keys and keys[0].endswith("_API_KEY") else None
    like_openai = [f"{stem}_API_BASE", f"{stem}_BASE_URL"] if stem else []
    row = {
        "serves": _serves(name, relayed),
        "wire": "azure" if name == "azure" else "openai" if name in relayed else "litellm",
        "api_base": api_base.rstrip("/") if api_base else None,
        "address_env": _once(
            in_code.get("address_env", []), asked["address_env"], too.get("address_env", []), like_openai
        ),
        "key_env": keys,
        "api_version": litellm.AZURE_DEFAULT_API_VERSION if name == "azure" else None,
        "version_env": ["AZURE_API_VERSION", "OPENAI_API_VERSION"] if name == "azure" else [],
        "key_required": name not in KEYLESS and not login,
        "login_env": login.get("any_of", []),
        "option_env": login.get("options", {}),
        **(_wire_quirks(name) if name in relayed else {}),
        "address_in_model": name in _address_in_model(),
    }
    return {key: value for key, value in row.items() if value not in (None, [], {}, False)}


def _serves(name: str, relayed: set[str]) -> list[str]:
    from litellm.types.utils import LlmProviders
    from litellm.utils import ProviderConfigManager

    if name not in {provider.value for provider in LlmProviders}:
        return ["chat"]
    provider = LlmProviders(name)
    if name in NO_CONFIG:
        return NO_CONFIG[name]
    chat = name in relayed or ProviderConfigManager.get_provider_chat_config("x", provider) is not None
    embedding = ProviderConfigManager.get_provider_embedding_config("x", provider) is not None
    return ["chat"] * chat + ["embedding"] * embedding


def _wire_quirks(name: str) -> dict[str, Any]:
    from litellm.types.utils import LlmProviders
    from litellm.utils import ProviderConfigManager

    if name not in {provider.value for provider in LlmProviders}:
        return {}
    config = ProviderConfigManager.get_provider_chat_config("x", LlmProviders(name))
    if config is None:
        return {}
    taken = config.get_supported_openai_params("x")
    renames = {field: its for field in _NUMBERS if field in taken and (its := _its_name(config, field)) is not None}
    return {"renames": renames, "refuses_stream_options": "stream_options" not in taken}


def _its_name(config: Any, field: str) -> str | None:
    """Ask LiteLLM to translate one field; a number that comes out under one other name was renamed."""
    number = 7
    out = config.map_openai_params({field: number}, {}, "x", drop_params=False)
    out = {**out, **out.pop("extra_body", {})} if isinstance(out, dict) else {}
    return next((name for name, value in out.items() if value == number and name != field and field not in out), None)


def _asked(name: str) -> dict[str, Any]:
    if name in {"github_copilot", "chatgpt"}:  # asking would start a login
        return {"api_base": None, "address_env": [], "key_env": []}
    with _noting() as noted:
        before = _address_and_key(name)
    found: dict[str, Any] = {"api_base": before[0], "address_env": [], "key_env": []}
    for variable in noted:
        os.environ[variable] = _SENTINEL
        address, key = _address_and_key(name)
        del os.environ[variable]
        if address and _SENTINEL in address:
            found["address_env"].append(variable)
        elif key == _SENTINEL:
            found["key_env"].append(variable)
    found["key_env"] += [key for key in _missing_keys(name) if key not in found["key_env"]]
    return found


def _address_and_key(name: str) -> tuple[str | None, str | None]:
    import litellm

    try:
        _, _, key, address = litellm.get_llm_provider(model=f"{name}/x")
    except litellm.exceptions.BadRequestError:
        return None, None
    return address, key


def _missing_keys(name: str) -> list[str]:
    import litellm

    missing = litellm.validate_environment(model=f"{name}/x")["missing_keys"]
    return [key for key in missing if key.endswith("_API_KEY")]


def _once(*lists: list[str]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def main() -> int:
    """Write the table, or compare it with the one that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the table is out of date")
    check = parser.parse_args().check
    text = json.dumps(provider_table(), indent=1, sort_keys=True) + "\n"
    if not check:
        TABLE.write_text(text, "utf-8")
        print(f"{TABLE.name}: {text.count('wire')} providers")
        return 0
    if TABLE.read_text("utf-8") == text:
        return 0
    print(f"{TABLE} is not what LiteLLM says now; run: python scripts/make_provider_table.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
