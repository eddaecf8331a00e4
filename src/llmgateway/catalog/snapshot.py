"""The catalog as it is served: one immutable snapshot that turns names into models."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType

from llmgateway.catalog import known
from llmgateway.catalog.building.listed import listed_auto, listed_model, may_choose
from llmgateway.catalog.equivalents import Table, equivalents_in, shipped
from llmgateway.catalog.model import (
    AUTO,
    Account,
    Auto,
    CallerLimits,
    Deployment,
    Limits,
    ListedModel,
    Model,
    Origin,
)
from llmgateway.catalog.nearest import Nearest
from llmgateway.catalog.providers import lacks_key, providers

_NAME = re.compile(r"[A-Za-z0-9._:@/+-]{1,256}")
SECRET_NAME = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)
_MOST_DERIVED = 4096  # names made up by clients must not fill the memory
# Names that need no prefix although LiteLLM's table may not have them yet, and who answers for them, best first.
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "gpt-": ("openai",),
    "chatgpt-": ("openai",),
    "o1": ("openai",),
    "o3": ("openai",),
    "o4": ("openai",),
    "text-embedding-3": ("openai",),
    "claude-": ("anthropic",),
    "gemini-": ("gemini", "vertex_ai"),
    "grok-": ("xai",),
    "mistral-": ("mistral",),
    "deepseek-": ("deepseek",),
    "command-": ("cohere",),
}


@dataclass(frozen=True)
class Passthrough:
    """Names that need no entry of their own.

    Args:
        pattern: `*` for all; `groq/*` for one account's; `gpt-*` for names without a prefix. Never across a prefix.
    """

    pattern: str
    drop_unsupported: bool = False
    defaults: Mapping[str, object] = field(default_factory=dict)

    def takes(self, name: str) -> bool:
        """Whether this entry offers the name."""
        if self.pattern == "*":
            return True
        prefix, slash, rest = self.pattern.partition("/")
        its_prefix, its_slash, its_rest = name.partition("/")
        if slash != its_slash:
            return False
        return prefix == its_prefix and fnmatchcase(its_rest, rest) if slash else fnmatchcase(name, prefix)


@dataclass(frozen=True)
class Webhooks:
    """Where alerts are sent, what signs them and webhooks of jobs, and whether those may stay in the own network."""

    secret: str | None = field(default=None, repr=False)
    alerts_url: str | None = field(default=None, repr=False)
    allow_private: bool = False


# What callers may ask where the catalog says nothing else: requests an hour and a minute, tokens, burst, cooldown.
_DEFAULT_TIER = Limits(60, 1_000, None, 50_000, None, 10, 60)
USUAL_LIMITS = CallerLimits(
    tiers=MappingProxyType(
        {
            "default": _DEFAULT_TIER,
            "free": _DEFAULT_TIER,
            "premium": Limits(120, 5_000, None, 200_000, None, 20, 30),
            "enterprise": Limits(300, 20_000, None, 1_000_000, None, 50, 15),
        }
    ),
    operations=MappingProxyType({"chat": 60, "embeddings": 30, "audio": 10}),
)


@dataclass(frozen=True)
class Catalog:
    """What is on offer.

    Args:
        models: By the names clients ask for, without those that `passthrough` derives.
        accounts: By their name in the catalog.
        version: Changes exactly when something on offer changes.
        warnings: What `check` and the log should say although it can be served.
        without_effect: Keys of the file whose part is not built yet.
        limits: How much callers may ask.
        auto: What the name `auto` picks from; `None` where there is nothing to pick.
        own_equivalents: The catalog's table; `None` is the one that is shipped.
        origins: Where each account comes from, by its name.
    """

    models: Mapping[str, Model]
    accounts: Mapping[str, Account]
    version: str
    passthrough: tuple[Passthrough, ...] = ()
    warnings: tuple[str, ...] = ()
    without_effect: tuple[str, ...] = ()
    limits: CallerLimits = USUAL_LIMITS
    auto: Auto | None = None
    own_equivalents: Table | None = None
    webhooks: Webhooks = Webhooks()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    _derived: dict[str, Model] = field(default_factory=dict, repr=False, compare=False)

    def resolve(self, name: str) -> Model | None:
        """Turn the name a client asked for into its model; `None` when there is no such, or not here."""
        model = self.models.get(name) or self._derived.get(name)
        if model is None and self.passthrough:
            model = self._derive(name)
            if model is not None and len(self._derived) < _MOST_DERIVED:
                self._derived[name] = model
        return model

    def reach(self, name: str) -> Model | None:
        """Turn the name of a fallback into its model: also of an equivalent that no client can name here."""
        return self.resolve(name) or self._equivalent_models.get(name)

    def equivalents(self, deployment: Deployment) -> tuple[str, ...]:
        """Give the names of about equal models at other providers that can be asked with `reach`, best first."""
        table = shipped() if self.own_equivalents is None else self.own_equivalents
        names = equivalents_in(table, deployment.account.provider, deployment.model)
        return tuple(name for name in names if name in self._equivalent_models)

    def nearest(self, name: str, count: int = 10) -> list[str]:
        """Give the names on offer that look most like `name`, best first."""
        return self._nearest.find(name, count)

    def listed(self) -> Sequence[ListedModel]:
        """Give everything on offer that can be named, for the list of models."""
        return self._listed

    def secrets(self) -> Iterator[str]:
        """Give every value that proves to a provider who we are: what no log line may hold."""
        for account in self.accounts.values():
            if account.api_key:
                yield account.api_key
            for name, value in account.options.items():
                if isinstance(value, str) and SECRET_NAME.search(name):
                    yield value
        yield from (value for value in (self.webhooks.secret, self.webhooks.alerts_url) if value)

    def warm(self) -> None:
        """Make what the first request would have to wait for: LiteLLM's table and the lists, some 80 ms; any thread."""
        known.known_models()
        self.nearest("")
        self.reach("")

    def describe(self, name: str) -> ListedModel | None:
        """Tell about one model that can be named, listed or not; `None` when there is no such, or not here."""
        model = self.resolve(name)
        if model is None:
            return self._listed_auto if name == AUTO else None
        return listed_model(model)

    def _derive(self, name: str) -> Model | None:
        if name == AUTO or not _NAME.fullmatch(name) or any(part in {"", ".", ".."} for part in name.split("/")):
            return None
        entry = next((entry for entry in self.passthrough if entry.takes(name)), None)
        found = self._deployed(name) if entry is not None else None
        if entry is None or found is None:
            return None
        account, model = found
        deployment = deployment_of(account, model, defaults=entry.defaults, drop_unsupported=entry.drop_unsupported)
        known_one = known.find(account.provider, model) is not None
        return Model(name=name, deployments=(deployment,), well_known=known_one, in_catalog=False)

    def _deployed(self, name: str) -> tuple[Account, str] | None:
        prefix, slash, rest = name.partition("/")
        account = self._account_for(prefix) if slash else None
        if account is not None:
            return account, rest
        if slash:
            return None
        accounts = (self._account_for(provider) for provider in _providers_of(name))
        return next(((account, name) for account in accounts if account is not None), None)

    def _account_for(self, prefix: str) -> Account | None:
        account = self.accounts.get(prefix) or self._by_provider.get(prefix)
        if account is None or account.wire == "demo":
            return None
        # A name must never be an address: such a provider is reached by the catalog's own models only.
        return None if providers()[account.provider].address_in_model else account

    @cached_property
    def _by_provider(self) -> Mapping[str, Account]:
        first: dict[str, Account] = {}
        for account in self.accounts.values():
            first.setdefault(account.provider, account)
        return first

    @cached_property
    def _equivalent_models(self) -> Mapping[str, Model]:
        """Those of the table that can be asked: through the catalog's own deployments of them, or any account."""
        own: dict[str, dict[str, Deployment]] = {}
        for one in (one for model in self.models.values() for one in model.deployments):
            if one.account.wire != "demo" and not lacks_key(one.account):
                own.setdefault(f"{one.account.provider}/{one.model}", {}).setdefault(one.account.name, one)
        table = shipped() if self.own_equivalents is None else self.own_equivalents
        names = {*table, *(name for others in table.values() for name in others)}
        found = {name: (*own.get(name, {}).values(),) or self._deployed_elsewhere(name) for name in names}
        return {name: Model(name, deployments, in_catalog=False) for name, deployments in found.items() if deployments}

    def _deployed_elsewhere(self, name: str) -> tuple[Deployment, ...]:
        provider, _, model = name.partition("/")
        for account in self.accounts.values():
            if account.provider == provider and self._may_be_asked(account):
                return (deployment_of(account, model),)
        return ()

    def _may_be_asked(self, account: Account) -> bool:
        """Whether an account is good for a model that nobody named there."""
        row = providers().get(account.provider)
        if row is None or row.address_in_model or lacks_key(account):
            return False
        # What we ship speaks of the providers themselves, and not of what stands in for one at another address.
        return self.own_equivalents is not None or account.api_base == row.api_base

    @cached_property
    def _listed_auto(self) -> ListedModel | None:
        auto = self.auto
        if auto is None:
            return None
        names = self.models if auto.models is None else auto.models
        models = [self.resolve(name) for name in dict.fromkeys((*names, *auto.tasks.values()))]
        offered = may_choose([model for model in models if model is not None])
        said = auto.tasks or auto.models
        return listed_auto(offered) if len(offered) > 1 or (offered and said) else None

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(model.id for model in self._listed)

    @cached_property
    def _listed(self) -> tuple[ListedModel, ...]:
        listed = {name: listed_model(model) for name, model in self.models.items()}
        if self.passthrough:
            for name in self._well_known():
                if name not in listed and (model := self._derive(name)) is not None:
                    listed[name] = listed_model(model)
        return (*listed.values(), *(() if self._listed_auto is None else (self._listed_auto,)))

    def _well_known(self) -> Iterator[str]:
        for account in self.accounts.values():
            # Azure's deployments have names of their own: nothing is well known there.
            if account.wire in {"demo", "azure"}:
                continue
            for model, _ in known.of_provider(account.provider):
                bare = account is self._account_for(next(iter(_providers_of(model)), ""))
                yield model if bare and "/" not in model else f"{account.name}/{model}"


def deployment_of(account: Account, model: str, **given: object) -> Deployment:
    """Make a deployment; what the catalog does not say about the model comes from LiteLLM's table."""
    facts = known.find(account.provider, model)
    if facts is not None:
        usual: dict[str, object] = {
            "context_length": facts.context_length,
            "max_output_tokens": facts.max_output_tokens,
            "capabilities": facts.capabilities,
            "lacks": facts.lacks,
            "prices": facts.prices,
        }
        given = {**usual, **given}
    return Deployment(account=account, model=model, **given)  # type: ignore[arg-type]  # names of Deployment's fields


def _providers_of(name: str) -> Iterator[str]:
    for prefix, families in _FAMILIES.items():
        if name.startswith(prefix):
            yield from families
    found = known.known_models().get(name)
    if found is not None:
        yield found.provider
