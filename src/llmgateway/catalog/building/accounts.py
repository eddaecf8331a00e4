"""Entries of providers into accounts, with what the environment adds."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from llmgateway.catalog.building.limits import limits_of
from llmgateway.catalog.check import nearest
from llmgateway.catalog.model import Account
from llmgateway.catalog.providers import account_of, providers, usual_security
from llmgateway.catalog.schema import ProviderEntry

DEMO = Account(name="demo", provider="demo", wire="demo", security_level="high")


def account_fault(entry: ProviderEntry, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Say which key of an entry keeps it from being an account, and why; `None` when nothing does."""
    row = providers().get(entry.provider)
    if row is None:
        near = nearest(entry.provider, providers())
        return "provider", f"there is no such provider; the nearest that LiteLLM knows is {near!r}"
    if row.wire != "litellm" and entry.api_base is None and account_of("", entry.provider, environ).api_base is None:
        return "api_base", f"{entry.provider} has no address of its own; set api_base"
    return None


def account_from(name: str, entry: ProviderEntry, environ: Mapping[str, str]) -> Account:
    """Make the account of an entry without a fault."""
    usual = account_of(name, entry.provider, environ)
    # A key of the environment never goes to an address that only this entry names.
    key = entry.api_key or (usual.api_key if entry.api_base is None else None)
    given = {option: value for option, value in entry.options.items() if value is not None}
    return replace(
        usual,
        api_key=key,
        api_base=entry.api_base.rstrip("/") if entry.api_base else usual.api_base,
        api_version=entry.api_version or usual.api_version,
        security_level=entry.security_level or usual_security(entry.provider, entry.api_base or usual.api_base),
        timeout_s=entry.timeout_s,
        limits=limits_of(entry.limits),
        accepts_client_keys=entry.accept_client_keys,
        options=MappingProxyType({**usual.options, **given}),
    )


def address_faults(accounts: Mapping[str, Account]) -> Iterator[str]:
    """Say whose address, out of the environment, is none."""
    for account in accounts.values():
        if account.api_base is not None and not account.api_base.startswith(("http://", "https://")):
            names = " or ".join(providers()[account.provider].address_env)
            yield f"{account.provider}: its address must begin with http:// or https://; correct {names}"
