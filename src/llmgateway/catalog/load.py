"""The catalog's text and the environment into a `Catalog`, or into ALL their faults with file and line."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from llmgateway.catalog import known
from llmgateway.catalog.check import UNKNOWN, check, nearest, says, written
from llmgateway.catalog.model import (
    Account,
    CallerLimits,
    Deployment,
    Limits,
    Model,
    Origin,
    Prices,
    SemanticCaching,
)
from llmgateway.catalog.providers import account_of, accounts_from, providers, usual_security
from llmgateway.catalog.rows import NO_ROWS, DeploymentFields, RowFault, Rows, deployment_entry, provider_entry
from llmgateway.catalog.schema import (
    CallerLimitsEntry,
    CatalogFile,
    DeploymentEntry,
    ModelEntry,
    PricesEntry,
    ProviderEntry,
    Tier,
)
from llmgateway.catalog.snapshot import USUAL_LIMITS, Catalog, Passthrough, Webhooks, deployment_of
from llmgateway.catalog.yaml_text import Path, Text, read

DEMO = Account(name="demo", provider="demo", wire="demo", security_level="high")
_DEMO_MODELS = {"demo/echo": "echo", "demo/summary": "summary"}
_FREE = Prices(0.0, 0.0)
_MILLION = 1_000_000
# Keys whose part is not built yet.
_LATER_SECTIONS = ("auto", "equivalents", "integrations")
_LATER_FACTS = ("tokenizer", "probe")
_LATER_MODEL = ("strategy", "fallbacks", "rescue", "hedge", *_LATER_FACTS)
_USUAL = {"strategy": "priority"}
_LATER_DEPLOYMENT = ("weight", *_LATER_FACTS)


class CatalogError(Exception):
    """The catalog is wrong; `faults` holds every fault as `file:line: path: what is wrong; what would be right`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def load(
    text: str | None, environ: Mapping[str, str], *, filename: str = "gateway.yaml", rows: Rows = NO_ROWS
) -> Catalog:
    """Make a catalog.

    Args:
        text: The file's text; `None` when there is no file: then all providers with a key in the environment.
        environ: For `${NAME}` in the file, and for accounts that the file leaves to the environment.
        filename: Named in messages.
        rows: What joins the file; a row that is faulty now is left out with a warning.

    Raises:
        CatalogError: Holds every fault of the text.
    """
    if text is None:
        accounts = accounts_from(environ)
        faults = [*_address_faults(accounts)]
        if faults:
            raise CatalogError(faults)
        joint = _Joint(accounts, {}, own=())
        joint.join(rows, {}, environ)
        return _catalog(joint, (Passthrough("*"),))
    reading = read(text, environ)
    builder = _Builder(reading, environ, filename, rows)
    catalog = builder.build()
    if reading.faults:
        raise CatalogError([builder.worded(fault) for fault in sorted(reading.faults, key=lambda fault: fault[0])])
    return catalog


class _Builder:
    """Checks what was read and makes accounts and models of it; faults are added to the reading's."""

    def __init__(self, reading: Text, environ: Mapping[str, str], filename: str, rows: Rows) -> None:
        self._reading = reading
        self._environ = environ
        self._filename = filename
        self._rows = rows

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
        joint = _Joint(accounts, models, own=own)
        if self._reading.faults:
            return _catalog(joint, passthrough)
        joint.join(self._rows, {entry.name: entry for entry in file.models if not entry.passthrough}, self._environ)
        catalog = _catalog(joint, passthrough)
        limits, hooks = _caller_limits(file.limits), file.webhooks
        return replace(
            catalog,
            warnings=(*self._warnings(file, accounts), *catalog.warnings),
            without_effect=tuple(self._later()),
            limits=limits,
            webhooks=Webhooks() if hooks is None else Webhooks(hooks.secret, hooks.alerts_url),
            version=_digest([catalog.version, limits]),
        )

    def worded(self, fault: tuple[int, Path, str]) -> str:
        """Give a fault as one line of text."""
        line, path, message = fault
        return f"{self._place(line, path)}: {message}"

    def _place(self, line: int, path: Path) -> str:
        where = written(path)
        return f"{self._filename}:{line}: {where}" if where else f"{self._filename}:{line}"

    def _fault(self, path: Path, message: str) -> None:
        self._reading.add(path, message)

    def _account(self, name: str, entry: ProviderEntry) -> Account | None:
        fault = account_fault(entry, self._environ)
        if fault is None:
            return _account(name, entry, self._environ)
        if entry.provider != UNKNOWN:
            key, message = fault
            self._fault(("providers", name, key), message)
        return None

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
                yield entry.name, _model(entry, deployments)

    def _check_accounts(self, path: Path, entry: ModelEntry, known: Mapping[str, object]) -> None:
        for n, deployment in enumerate(entry.deployments):
            name = deployment.provider
            if name not in known and name != UNKNOWN:
                near = f"; the nearest is {nearest(name, known)!r}" if known else ", nor any other: add it there"
                self._fault((*path, "deployments", n, "provider"), f"`providers` has no account {name!r}{near}")

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
            if (account := accounts.get(name)) is not None and _lacks_key(account):
                yield f"{place}: this account has no key; calls to {account.provider} will be refused"

    def _later(self) -> list[str]:
        value = self._reading.value if isinstance(self._reading.value, dict) else {}
        paths = [*_later_paths(value)]
        return [self._place(line, path) for line, path in sorted((self._reading.line_of(path), path) for path in paths)]


class _Joint:
    """What the file and the environment offer, and the rows of the database join. What was there first stays."""

    def __init__(self, accounts: dict[str, Account], models: dict[str, Model], own: Collection[str]) -> None:
        self.accounts = accounts
        self.models = models
        self.origins: dict[str, Origin] = {name: "file" if name in own else "environment" for name in accounts}
        self.origins[DEMO.name] = "built_in"
        self.warnings: list[str] = []

    def join(self, rows: Rows, entries: Mapping[str, ModelEntry], environ: Mapping[str, str]) -> None:
        """Add rows.

        Args:
            entries: The file's models: a further deployment of one has the model's facts and defaults.
        """
        for name, fields in rows.providers.items():
            try:
                self.accounts[name] = self._account(name, fields, environ)
                self.origins[name] = "database"
            except RowFault as fault:
                self._warn(f"providers.{name}", f"{fault}; it is left out")
        for row in rows.deployments:
            try:
                self.models[row.model] = self._model(row, entries.get(row.model))
            except RowFault as fault:
                self._warn(f"deployments.{row.id}", f"{fault}; it is left out")

    def _account(self, name: str, fields: Mapping[str, Any], environ: Mapping[str, str]) -> Account:
        if (origin := self.origins.get(name)) is not None:
            raise RowFault(f"the {origin.replace('_', '-')} has a provider of this name, which stays")
        entry = provider_entry(name, fields)
        if (fault := account_fault(entry, environ)) is not None:
            raise RowFault(": ".join(fault))
        account = _account(name, entry, environ)
        if _lacks_key(account):
            self._warn(f"providers.{name}", f"it has no key; calls to {account.provider} will be refused")
        return account

    def _model(self, row: DeploymentFields, entry: ModelEntry | None) -> Model:
        if row.model in _DEMO_MODELS:
            raise RowFault(f"{row.model!r} is built in; choose another name")
        one = deployment_entry(row)
        account = self.accounts.get(one.provider)
        if account is None:
            raise RowFault(
                f"there is no provider {one.provider!r}; the nearest is {nearest(one.provider, self.accounts)!r}"
            )
        entry = entry or ModelEntry(name=row.model)
        deployment = replace(_deployment(account, one, entry), row_id=row.id)
        model = self.models.get(row.model) or _model(entry, ())
        return replace(model, deployments=(*model.deployments, deployment))

    def _warn(self, where: str, message: str) -> None:
        self.warnings.append(f"database: {where}: {message}")


def _catalog(joint: _Joint, passthrough: tuple[Passthrough, ...]) -> Catalog:
    demo = {name: Model(name, (Deployment(DEMO, model, prices=_FREE),)) for name, model in _DEMO_MODELS.items()}
    all_accounts, all_models = {**joint.accounts, DEMO.name: DEMO}, {**joint.models, **demo}
    fault = known.fault()
    return Catalog(
        models=MappingProxyType(all_models),
        accounts=MappingProxyType(all_accounts),
        version=_digest([[*all_accounts.values()], [*all_models.values()], passthrough]),
        passthrough=passthrough,
        warnings=(*joint.warnings, *(() if fault is None else (fault,))),
        origins=MappingProxyType(joint.origins),
    )


def account_fault(entry: ProviderEntry, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Say which key of an entry keeps it from being an account, and why; `None` when nothing does."""
    row = providers().get(entry.provider)
    if row is None:
        near = nearest(entry.provider, providers())
        return "provider", f"there is no such provider; the nearest that LiteLLM knows is {near!r}"
    if row.wire != "litellm" and entry.api_base is None and account_of("", entry.provider, environ).api_base is None:
        return "api_base", f"{entry.provider} has no address of its own; set api_base"
    return None


def _account(name: str, entry: ProviderEntry, environ: Mapping[str, str]) -> Account:
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


def _lacks_key(account: Account) -> bool:
    return account.api_key is None and providers()[account.provider].key_required


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
        "limits": limits_of(entry.limits),
    }
    return deployment_of(
        account,
        entry.model,
        weight=entry.weight,
        defaults=MappingProxyType(model.defaults),
        drop_unsupported=model.drop_unsupported,
        **{fact: value for fact, value in given.items() if value is not None},
    )


def _model(entry: ModelEntry, deployments: tuple[Deployment, ...]) -> Model:
    semantic = entry.semantic_cache
    return Model(
        name=entry.name,
        deployments=deployments,
        strategy=entry.strategy,
        cache_ttl_s=None if entry.cache is None else entry.cache.ttl_s,
        semantic=None if semantic is None else SemanticCaching(semantic.embedding_model, semantic.threshold),
    )


def limits_of(entry: Tier) -> Limits:
    """Make limits of what a file or a request says."""
    return Limits(**entry.model_dump())


def _caller_limits(entry: CallerLimitsEntry | None) -> CallerLimits:
    if entry is None:
        return USUAL_LIMITS
    return CallerLimits(
        tiers=MappingProxyType({**USUAL_LIMITS.tiers, **_all_limits(entry.tiers)}),
        operations=MappingProxyType({**USUAL_LIMITS.operations, **entry.operations}),
        users=limits_of(entry.users),
        models=MappingProxyType(_all_limits(entry.models)),
        everyone=limits_of(entry.everyone),
    )


def _all_limits(entries: Mapping[str, Tier]) -> dict[str, Limits]:
    return {name: limits_of(entry) for name, entry in entries.items()}


def _per_token(prices: PricesEntry) -> Prices:
    # In decimals: 2.55 / 1,000,000 in binary is not what 0.00000255 is.
    given = {kind: Decimal(str(price)) / _MILLION for kind, price in prices.model_dump(exclude_none=True).items()}
    kinds: dict[str, Any] = {kind: float(price) for kind, price in given.items()}
    return Prices(**kinds)


def _later_paths(value: Mapping[str, Any]) -> Iterator[Path]:
    yield from ((section,) for section in _LATER_SECTIONS if value.get(section))
    for index, model in enumerate(value.get("models") or ()):
        yield from (("models", index, key) for key in _LATER_MODEL if says(model, key, _USUAL.get(key)))
        for n, deployment in enumerate(model.get("deployments") or ()):
            at: Path = ("models", index, "deployments", n)
            yield from ((*at, key) for key in _LATER_DEPLOYMENT if says(deployment, key))
            if n:
                yield at
