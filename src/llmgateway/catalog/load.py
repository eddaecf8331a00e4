"""The catalog's text and the environment into a `Catalog`, or into ALL their faults with file and line."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from llmgateway.catalog import known
from llmgateway.catalog.check import UNKNOWN, check, nearest, says
from llmgateway.catalog.model import Account, Deployment, Limits, Model, Prices
from llmgateway.catalog.providers import account_of, accounts_from, providers
from llmgateway.catalog.schema import CatalogFile, DeploymentEntry, ModelEntry, PricesEntry, ProviderEntry
from llmgateway.catalog.snapshot import Catalog, Passthrough, deployment_of
from llmgateway.catalog.yaml_text import Path, Text, read

DEMO = Account(name="demo", provider="demo", wire="demo", security_level="high")
_DEMO_MODELS = {"demo/echo": "echo", "demo/summary": "summary"}
_FREE = Prices(0.0, 0.0)
_MILLION = 1_000_000
# Keys whose part is not built yet.
_LATER_SECTIONS = ("auto", "equivalents", "limits", "webhooks", "integrations")
_LATER_ACCOUNT = ("security_level",)
_LATER_LIMITS = ("requests_per_minute", "tokens_per_minute")
_LATER_FACTS = ("tokenizer", "probe")
_LATER_MODEL = ("strategy", "fallbacks", "rescue", "hedge", "semantic_cache", "cache", *_LATER_FACTS)
_USUAL = {"strategy": "priority"}
_LATER_DEPLOYMENT = ("weight", *_LATER_FACTS)


class CatalogError(Exception):
    """The catalog is wrong; `faults` holds every fault as `file:line: path: what is wrong; what would be right`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def load(text: str | None, environ: Mapping[str, str], *, filename: str = "gateway.yaml") -> Catalog:
    """Make a catalog.

    Args:
        text: The file's text; `None` when there is no file: then all providers with a key in the environment.
        environ: For `${NAME}` in the file, and for accounts that the file leaves to the environment.
        filename: Named in messages.

    Raises:
        CatalogError: Holds every fault of the text.
    """
    if text is None:
        accounts = accounts_from(environ)
        faults = [*_address_faults(accounts)]
        if faults:
            raise CatalogError(faults)
        return _catalog(accounts, {}, (Passthrough("*"),))
    reading = read(text, environ)
    builder = _Builder(reading, environ, filename)
    catalog = builder.build()
    if reading.faults:
        raise CatalogError([builder.worded(fault) for fault in sorted(reading.faults, key=lambda fault: fault[0])])
    return catalog


class _Builder:
    """Checks what was read and makes accounts and models of it; faults are added to the reading's."""

    def __init__(self, reading: Text, environ: Mapping[str, str], filename: str) -> None:
        self._reading = reading
        self._environ = environ
        self._filename = filename

    def build(self) -> Catalog:
        """Give the catalog of all that is right; it may be served only when the reading has no fault."""
        file = check(self._reading)
        if DEMO.name in file.providers:
            self._fault(("providers", DEMO.name), f"the account {DEMO.name!r} is built in; choose another name")
        own = {name: self._account(name, entry) for name, entry in file.providers.items()}
        accounts = {name: account for name, account in own.items() if account is not None}
        passthrough = tuple(
            Passthrough(entry.name, entry.drop_unsupported, MappingProxyType(entry.defaults))
            for entry in file.models
            if entry.passthrough
        )
        if any(entry.pattern == "*" for entry in passthrough):
            named = {account.provider for account in accounts.values()}
            more = accounts_from(self._environ)
            accounts.update({name: more[name] for name in more if name not in own and name not in named})
        for fault in _address_faults(accounts):
            self._fault((), fault)
        models = dict(self._models(file, accounts))
        self._check_names(file, models)
        if self._reading.faults:
            return _catalog(accounts, models, passthrough)
        later = tuple(self._later())
        return _catalog(accounts, models, passthrough, warnings=tuple(self._warnings(file, accounts)), later=later)

    def worded(self, fault: tuple[int, Path, str]) -> str:
        """Give a fault as one line of text."""
        line, path, message = fault
        return f"{self._place(line, path)}: {message}"

    def _place(self, line: int, path: Path) -> str:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
        return f"{self._filename}:{line}: {where}" if where else f"{self._filename}:{line}"

    def _fault(self, path: Path, message: str) -> None:
        self._reading.add(path, message)

    def _account(self, name: str, entry: ProviderEntry) -> Account | None:
        path: Path = ("providers", name)
        if entry.provider not in providers():
            if entry.provider != UNKNOWN:
                near = nearest(entry.provider, providers())
                self._fault(
                    (*path, "provider"), f"there is no such provider; the nearest that LiteLLM knows is {near!r}"
                )
            return None
        usual = account_of(name, entry.provider, self._environ)
        # A key of the environment never goes to an address that only this file names.
        key = entry.api_key or (usual.api_key if entry.api_base is None else None)
        given = {option: value for option, value in entry.options.items() if value is not None}
        account = replace(
            usual,
            api_key=key,
            api_base=entry.api_base.rstrip("/") if entry.api_base else usual.api_base,
            api_version=entry.api_version or usual.api_version,
            security_level=entry.security_level,
            timeout_s=entry.timeout_s,
            limits=Limits(**entry.limits.model_dump()),
            options=MappingProxyType({**usual.options, **given}),
        )
        if account.wire != "litellm" and account.api_base is None:
            self._fault((*path, "api_base"), f"{entry.provider} has no address of its own; set api_base")
        return account

    def _models(self, file: CatalogFile, accounts: Mapping[str, Account]) -> Iterator[tuple[str, Model]]:
        for index, entry in enumerate(file.models):
            path: Path = ("models", index)
            self._check_accounts(path, entry, {**accounts, **file.providers})
            deployments = tuple(
                _deployment(accounts[one.provider], one, entry) for one in entry.deployments if one.provider in accounts
            )
            if not entry.deployments and not entry.passthrough:
                self._fault(path, "a model needs `deployments`, at least one; or `passthrough: true` for a pattern")
            if deployments:
                yield entry.name, Model(name=entry.name, deployments=deployments, strategy=entry.strategy)

    def _check_accounts(self, path: Path, entry: ModelEntry, known: Mapping[str, object]) -> None:
        for n, deployment in enumerate(entry.deployments):
            name = deployment.provider
            if name not in known and name != UNKNOWN:
                message = f"`providers` has no account {name!r}; the nearest is {nearest(name, known)!r}"
                self._fault((*path, "deployments", n, "provider"), message)

    def _check_names(self, file: CatalogFile, models: Mapping[str, Model]) -> None:
        seen: set[str] = set()
        for index, entry in enumerate(file.models):
            path: Path = ("models", index, "name")
            if entry.name == UNKNOWN:
                continue
            if entry.name in seen:
                self._fault(path, f"the name {entry.name!r} stands here twice; keep one, with both deployments")
            if "*" in entry.name and not entry.passthrough:
                self._fault(path, "a name with `*` is a pattern: add `passthrough: true`, or name one model")
            if entry.passthrough and entry.deployments:
                self._fault(path, "an entry with `passthrough: true` has no deployments; remove one of the two")
            if entry.name in _DEMO_MODELS:
                self._fault(path, f"{entry.name!r} is built in; choose another name")
            seen.add(entry.name)

    def _warnings(self, file: CatalogFile, accounts: Mapping[str, Account]) -> Iterator[str]:
        for name, entry in file.providers.items():
            path: Path = ("providers", name, "api_key")
            place = self._place(self._reading.line_of(path), path)
            if entry.api_key and path not in self._reading.expanded:
                yield f"{place}: a key stands in the file itself; write ${{NAME}} and set NAME in the environment"
            account = accounts.get(name)
            if account is not None and account.api_key is None and providers()[account.provider].key_required:
                yield f"{place}: this account has no key; calls to {account.provider} will be refused"

    def _later(self) -> list[str]:
        value = self._reading.value if isinstance(self._reading.value, dict) else {}
        paths = [*_later_paths(value)]
        return [self._place(line, path) for line, path in sorted((self._reading.line_of(path), path) for path in paths)]


def _catalog(
    accounts: Mapping[str, Account],
    models: Mapping[str, Model],
    passthrough: tuple[Passthrough, ...],
    *,
    warnings: tuple[str, ...] = (),
    later: tuple[str, ...] = (),
) -> Catalog:
    demo = {name: Model(name, (Deployment(DEMO, model, prices=_FREE),)) for name, model in _DEMO_MODELS.items()}
    all_accounts, all_models = {**accounts, DEMO.name: DEMO}, {**models, **demo}
    return Catalog(
        models=MappingProxyType(all_models),
        accounts=MappingProxyType(all_accounts),
        version=_digest([[*all_accounts.values()], [*all_models.values()], passthrough]),
        passthrough=passthrough,
        warnings=(*warnings, *([fault] if (fault := known.fault()) else ())),
        without_effect=later,
    )


def _address_faults(accounts: Mapping[str, Account]) -> Iterator[str]:
    for account in accounts.values():
        if account.api_base is not None and not account.api_base.startswith(("http://", "https://")):
            names = " or ".join(providers()[account.provider].address_env)
            yield f"{account.provider}: its address must begin with http:// or https://; correct {names}"


def _digest(content: object) -> str:
    encoded = msgspec.json.encode(content, enc_hook=_plain, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:16]


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else repr(value)


def _deployment(account: Account, entry: DeploymentEntry, model: ModelEntry) -> Deployment:
    prices = entry.prices_per_million or model.prices_per_million
    capabilities = entry.capabilities if entry.capabilities is not None else model.capabilities
    given: dict[str, object] = {
        "context_length": entry.context_length or model.context_length,
        "max_output_tokens": entry.max_output_tokens or model.max_output_tokens,
        "capabilities": None if capabilities is None else frozenset(capabilities),
        "prices": None if prices is None else _per_token(prices),
    }
    return deployment_of(
        account,
        entry.model,
        weight=entry.weight,
        defaults=MappingProxyType(model.defaults),
        drop_unsupported=model.drop_unsupported,
        **{fact: value for fact, value in given.items() if value is not None},
    )


def _per_token(prices: PricesEntry) -> Prices:
    # In decimals: 2.55 / 1,000,000 in binary is not what 0.00000255 is.
    given = {kind: Decimal(str(price)) / _MILLION for kind, price in prices.model_dump(exclude_none=True).items()}
    kinds: dict[str, Any] = {kind: float(price) for kind, price in given.items()}
    return Prices(**kinds)


def _later_paths(value: Mapping[str, Any]) -> Iterator[Path]:
    yield from ((section,) for section in _LATER_SECTIONS if value.get(section))
    for name, account in (value.get("providers") or {}).items():
        yield from (("providers", name, key) for key in _LATER_ACCOUNT if says(account, key))
        limits = account.get("limits") or {}
        yield from (("providers", name, "limits", key) for key in _LATER_LIMITS if says(limits, key))
    for index, model in enumerate(value.get("models") or ()):
        yield from (("models", index, key) for key in _LATER_MODEL if says(model, key, _USUAL.get(key)))
        for n, deployment in enumerate(model.get("deployments") or ()):
            at: Path = ("models", index, "deployments", n)
            yield from ((*at, key) for key in _LATER_DEPLOYMENT if says(deployment, key))
            if n:
                yield at
