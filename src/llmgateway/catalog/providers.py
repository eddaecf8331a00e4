"""The table of providers, generated from LiteLLM (`scripts/make_provider_table.py`), and accounts made from it."""

from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from llmgateway.catalog.model import Account, SecurityLevel

_TABLE = Path(__file__).with_name("providers.json")
_OWN_SERVERS = frozenset(
    {
        "ollama",
        "ollama_chat",
        "vllm",
        "hosted_vllm",
        "lm_studio",
        "llamafile",
        "xinference",
        "infinity",
        "docker_model_runner",
    }
)
_TRUSTED_CLOUDS = frozenset({"bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat"})
_LOCAL_NAMES = (".local", ".internal", ".lan", ".localdomain", ".svc", ".home.arpa")


class Provider(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """How one provider is spoken to, where, and which environment names hold its address and key, best first.

    Args:
        serves: Empty when LiteLLM has neither chat nor embeddings there.
        key_required: `False` for local servers (an address is enough) and for logins made of several parts.
        login_env: Any one of these shows that a login of several parts is there.
        option_env: LiteLLM's parameter -> the environment names it is read from.
        renames: OpenAI's field -> what this provider of OpenAI's wire calls it.
        refuses_stream_options: A stream cannot be asked for its usage there.
        address_in_model: LiteLLM takes an address out of the model's name there.
    """

    wire: Literal["openai", "azure", "litellm"]
    serves: tuple[str, ...] = ()
    api_base: str | None = None
    address_env: tuple[str, ...] = ()
    key_env: tuple[str, ...] = ()
    key_required: bool = False
    api_version: str | None = None
    version_env: tuple[str, ...] = ()
    login_env: tuple[str, ...] = ()
    option_env: Mapping[str, tuple[str, ...]] = {}
    renames: Mapping[str, str] = {}
    refuses_stream_options: bool = False
    address_in_model: bool = False


@cache
def providers() -> Mapping[str, Provider]:
    """Give the table, by LiteLLM's provider name; read once."""
    return msgspec.json.decode(_TABLE.read_bytes(), type=dict[str, Provider])


def accounts_from(environ: Mapping[str, str]) -> dict[str, Account]:
    """Make an account, named as its provider, for every provider whose usual environment variable is there."""
    return {name: account_of(name, name, environ) for name, row in providers().items() if _is_there(row, environ)}


def account_of(name: str, provider: str, environ: Mapping[str, str]) -> Account:
    """Make an account from the environment alone; parts that are not there stay `None`."""
    row = providers()[provider]
    options = {option: first(names, environ) for option, names in row.option_env.items()}
    api_base = (first(row.address_env, environ) or row.api_base or "").rstrip("/") or None
    return Account(
        name=name,
        provider=provider,
        wire=row.wire,
        api_key=first(row.key_env, environ),
        api_base=api_base,
        api_version=first(row.version_env, environ) or row.api_version,
        options={option: value for option, value in options.items() if value},
        security_level=usual_security(provider, api_base),
        renames=row.renames,
        takes_stream_options=not row.refuses_stream_options,
    )


def usual_security(provider: str, api_base: str | None) -> SecurityLevel:
    """Say how far a provider may be trusted with what is sensitive: what stays in the house, or the cloud account, may.

    Args:
        api_base: A model server of one's own may also be rented elsewhere: then it is as any other.
    """
    if provider in _TRUSTED_CLOUDS:
        return "high"
    host = None if api_base is None else urlsplit(api_base).hostname
    if host is None:
        return "high" if provider in _OWN_SERVERS else "medium"
    return "high" if _is_local(host, named_locally=provider in _OWN_SERVERS) else "medium"


def _is_local(host: str, *, named_locally: bool) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        # A name without a dot is one of the own network; of a public provider it may still be a proxy to it.
        return host == "localhost" or (named_locally and ("." not in host or host.endswith(_LOCAL_NAMES)))
    return address.is_loopback or address.is_private


def lacks_key(account: Account) -> bool:
    """Whether an account has no key where its provider asks for one."""
    return account.api_key is None and providers()[account.provider].key_required


def first(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """Give the value of the first name that is set and not empty."""
    return next((environ[name] for name in names if environ.get(name)), None)


def _is_there(row: Provider, environ: Mapping[str, str]) -> bool:
    address = first(row.address_env, environ) or (row.api_base if row.key_required else None)
    if not row.serves or (row.wire != "litellm" and address is None):
        return False
    named = row.key_env if row.key_required else (*row.login_env, *row.address_env, *row.key_env)
    return first(named, environ) is not None
