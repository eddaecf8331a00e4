"""The catalog's text and the environment into a `Catalog`, or into ALL their faults with file and line."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path as FilePath
from types import MappingProxyType

import msgspec

from llmgateway.catalog import known
from llmgateway.catalog.building import tokenizers
from llmgateway.catalog.building.accounts import DEMO, account_fault, account_from, address_faults
from llmgateway.catalog.building.effects import effect_warnings
from llmgateway.catalog.building.joint import Joint
from llmgateway.catalog.building.limits import caller_limits
from llmgateway.catalog.building.models import DEMO_MODELS, auto_from, deployment_from, model_from, name_fault
from llmgateway.catalog.building.references import reference_faults
from llmgateway.catalog.building.yaml_text import Path, Text, read
from llmgateway.catalog.check import UNKNOWN, check, nearest, written
from llmgateway.catalog.equivalents import table_of
from llmgateway.catalog.model import Account, Model
from llmgateway.catalog.providers import accounts_from, lacks_key
from llmgateway.catalog.rows import NO_ROWS, Rows
from llmgateway.catalog.schema import CatalogFile, ModelEntry, ProviderEntry
from llmgateway.catalog.snapshot import Catalog, Passthrough, Webhooks

# Sections whose part is not built yet.
_LATER_SECTIONS = ("integrations",)


class CatalogError(Exception):
    """The catalog is wrong; `faults` holds every fault as `file:line: path: what is wrong; what would be right`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def load(
    text: str | None,
    environ: Mapping[str, str],
    *,
    filename: str = "gateway.yaml",
    folder: FilePath | None = None,
    rows: Rows = NO_ROWS,
) -> Catalog:
    """Make a catalog.

    Args:
        text: The file's text; `None` when there is no file: then all providers with a key in the environment.
        environ: For `${NAME}` in the file, and for accounts that the file leaves to the environment.
        filename: Named in messages.
        folder: In which the file is, and what it names by paths; `None` is that of `filename`.
        rows: What joins the file; a row that is faulty now is left out with a warning.

    Raises:
        CatalogError: Holds every fault of the text.
    """
    folder = FilePath(filename).parent if folder is None else folder
    if text is None:
        accounts = accounts_from(environ)
        faults = [*address_faults(accounts)]
        if faults:
            raise CatalogError(faults)
        joint = Joint(accounts, {}, (), folder)
        joint.join(rows, {}, environ)
        return _catalog(joint, (Passthrough("*"),), CatalogFile())
    reading = read(text, environ)
    builder = _Builder(reading, environ, filename, folder)
    catalog = builder.build(rows)
    if reading.faults:
        raise CatalogError([builder.worded(fault) for fault in sorted(reading.faults, key=lambda fault: fault[0])])
    return catalog


class _Builder:
    """Checks what was read and makes accounts and models of it; faults are added to the reading's."""

    def __init__(self, reading: Text, environ: Mapping[str, str], filename: str, folder: FilePath) -> None:
        self._reading = reading
        self._environ = environ
        self._filename = filename
        self._folder = folder
        self._tokenizer_fault = cache(partial(tokenizers.fault, folder=folder))

    def build(self, rows: Rows) -> Catalog:
        """Give the catalog of all that is right; it may be served only when the reading has no fault."""
        file = check(self._reading)
        if DEMO.name in file.providers:
            self._fault(("providers", DEMO.name), "the account 'demo' is built in; choose another name")
        own = {name: self._account(name, entry) for name, entry in file.providers.items()}
        accounts = {name: account for name, account in own.items() if account is not None}
        passthrough = _passthrough(file)
        if any(entry.pattern == "*" for entry in passthrough):
            named = {account.provider for account in accounts.values()}
            more = accounts_from(self._environ)
            accounts.update({name: more[name] for name in more if name not in own and name not in named})
        for fault in address_faults(accounts):
            self._fault((), fault)
        models = dict(self._models(file, accounts))
        self._check_names(file)
        joint = Joint(accounts, models, own, self._folder)
        alone = _catalog(joint, passthrough, file)
        self._check_references(file, alone)
        if self._reading.faults:
            return alone
        joint.join(rows, {entry.name: entry for entry in file.models if not entry.passthrough}, self._environ)
        catalog = _catalog(joint, passthrough, file)
        return replace(
            catalog,
            warnings=(*self._warnings(file, catalog), *catalog.warnings),
            without_effect=tuple(self._later()),
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
            return account_from(name, entry, self._environ)
        if entry.provider != UNKNOWN:
            key, message = fault
            self._fault(("providers", name, key), message)
        return None

    def _models(self, file: CatalogFile, accounts: Mapping[str, Account]) -> Iterator[tuple[str, Model]]:
        for index, entry in enumerate(file.models):
            path: Path = ("models", index)
            self._check_accounts(path, entry, {**accounts, **file.providers})
            self._check_tokenizers(path, entry)
            deployments = tuple(
                deployment_from(accounts[one.provider], one, entry, self._folder)
                for one in entry.deployments
                if one.provider in accounts
            )
            if not entry.deployments and not entry.passthrough:
                self._fault(path, "a model needs `deployments`, at least one; or `passthrough: true` for a pattern")
            if deployments:
                yield entry.name, model_from(entry, deployments)

    def _check_accounts(self, path: Path, entry: ModelEntry, known: Mapping[str, object]) -> None:
        for n, deployment in enumerate(entry.deployments):
            name = deployment.provider
            if name not in known and name != UNKNOWN:
                near = f"; the nearest is {nearest(name, known)!r}" if known else ", nor any other: add it there"
                self._fault((*path, "deployments", n, "provider"), f"`providers` has no account {name!r}{near}")

    def _check_tokenizers(self, path: Path, entry: ModelEntry) -> None:
        deployments = (((*path, "deployments", n), one.tokenizer) for n, one in enumerate(entry.deployments))
        for place, tokenizer in ((path, entry.tokenizer), *deployments):
            if tokenizer is not None and (fault := self._tokenizer_fault(tokenizer)) is not None:
                self._fault((*place, "tokenizer"), fault)

    def _check_references(self, file: CatalogFile, catalog: Catalog) -> None:
        # What is wrong elsewhere may be why a name that follows from a pattern is not there.
        sure = not (catalog.passthrough and self._reading.faults)
        for path, message in [*reference_faults(file, catalog, sure=sure)]:
            self._fault(path, message)

    def _check_names(self, file: CatalogFile) -> None:
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
            if (fault := name_fault(entry.name)) is not None:
                self._fault(path, fault)
            seen.add(entry.name)

    def _warnings(self, file: CatalogFile, catalog: Catalog) -> Iterator[str]:
        for path, message in (*self._key_warnings(file, catalog.accounts), *effect_warnings(file, catalog)):
            yield f"{self._place(self._reading.line_of(path), path)}: {message}"

    def _key_warnings(self, file: CatalogFile, accounts: Mapping[str, Account]) -> Iterator[tuple[Path, str]]:
        for name, entry in file.providers.items():
            path: Path = ("providers", name, "api_key")
            if entry.api_key and path not in self._reading.expanded:
                yield path, "a key stands in the file itself; write ${NAME} and set NAME in the environment"
            if (account := accounts.get(name)) is not None and lacks_key(account):
                yield path, f"this account has no key; calls to {account.provider} will be refused"

    def _later(self) -> list[str]:
        value = self._reading.value if isinstance(self._reading.value, dict) else {}
        sections: list[Path] = [(section,) for section in _LATER_SECTIONS if value.get(section)]
        return [self._place(self._reading.line_of(path), path) for path in sections]


def _passthrough(file: CatalogFile) -> tuple[Passthrough, ...]:
    return tuple(
        Passthrough(entry.name, entry.drop_unsupported, MappingProxyType(entry.defaults))
        for entry in file.models
        if entry.passthrough
    )


def _catalog(joint: Joint, passthrough: tuple[Passthrough, ...], file: CatalogFile) -> Catalog:
    accounts, models = {**joint.accounts, DEMO.name: DEMO}, {**joint.models, **DEMO_MODELS}
    auto = auto_from(file.auto, joint.models)
    equivalents = None if file.equivalents is None else table_of(file.equivalents)
    limits, hooks = caller_limits(file.limits), file.webhooks
    fault = known.fault()
    return Catalog(
        models=MappingProxyType(models),
        accounts=MappingProxyType(accounts),
        version=_digest([[*accounts.values()], [*models.values()], passthrough, auto, equivalents, limits]),
        passthrough=passthrough,
        warnings=(*joint.warnings, *(() if fault is None else (fault,))),
        limits=limits,
        auto=auto,
        own_equivalents=equivalents,
        webhooks=Webhooks() if hooks is None else Webhooks(hooks.secret, hooks.alerts_url, hooks.allow_private),
        origins=MappingProxyType(joint.origins),
    )


def _digest(content: object) -> str:
    encoded = msgspec.json.encode(content, enc_hook=_plain, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:16]


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else repr(value)
