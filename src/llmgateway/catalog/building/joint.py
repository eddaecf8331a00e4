"""What the file and the environment offer, joined by the rows of the database."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmgateway.catalog.building import tokenizers
from llmgateway.catalog.building.accounts import DEMO, account_fault, account_from
from llmgateway.catalog.building.models import deployment_from, model_from, name_fault
from llmgateway.catalog.check import nearest
from llmgateway.catalog.model import Account, Model, Origin
from llmgateway.catalog.providers import lacks_key
from llmgateway.catalog.rows import DeploymentFields, RowFault, Rows, deployment_entry, provider_entry
from llmgateway.catalog.schema import ModelEntry


class Joint:
    """Accounts and models from everywhere. What was there first stays.

    Args:
        own: Names of the accounts that the file has.
        folder: The catalog's, in which tokenizers are.
    """

    def __init__(
        self, accounts: dict[str, Account], models: dict[str, Model], own: Collection[str], folder: Path
    ) -> None:
        self.accounts = accounts
        self.models = models
        self.origins: dict[str, Origin] = {name: "file" if name in own else "environment" for name in accounts}
        self.origins[DEMO.name] = "built_in"
        self.warnings: list[str] = []
        self._folder = folder

    def join(self, rows: Rows, entries: Mapping[str, ModelEntry], environ: Mapping[str, str]) -> None:
        """Add rows.

        Args:
            entries: The file's models: a further deployment of one has the model's facts and defaults.
        """
        for name, fields in rows.providers.items():
            try:
                self._add_account(name, fields, environ)
            except RowFault as fault:
                self._warn(f"providers.{name}", f"{fault}; it is left out")
        for row in rows.deployments:
            try:
                self._add_deployment(row, entries.get(row.model))
            except RowFault as fault:
                self._warn(f"deployments.{row.id}", f"{fault}; it is left out")

    def _add_account(self, name: str, fields: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        if (origin := self.origins.get(name)) is not None:
            raise RowFault(f"the {origin.replace('_', '-')} has a provider of this name, which stays")
        entry = provider_entry(name, fields)
        if (fault := account_fault(entry, environ)) is not None:
            raise RowFault(": ".join(fault))
        account = account_from(name, entry, environ)
        if lacks_key(account):
            self._warn(f"providers.{name}", f"it has no key; calls to {account.provider} will be refused")
        self.accounts[name] = account
        self.origins[name] = "database"

    def _add_deployment(self, row: DeploymentFields, entry: ModelEntry | None) -> None:
        if (fault := name_fault(row.model)) is not None:
            raise RowFault(fault)
        one = deployment_entry(row)
        account = self.accounts.get(one.provider)
        if account is None:
            near = nearest(one.provider, self.accounts)
            raise RowFault(f"there is no provider {one.provider!r}; the nearest is {near!r}")
        if one.tokenizer is not None and (fault := tokenizers.fault(one.tokenizer, self._folder)) is not None:
            raise RowFault(f"tokenizer: {fault}")
        entry = entry or ModelEntry(name=row.model)
        deployment = replace(deployment_from(account, one, entry, self._folder), row_id=row.id)
        model = self.models.get(row.model) or model_from(entry, ())
        self.models[row.model] = replace(model, deployments=(*model.deployments, deployment))

    def _warn(self, where: str, message: str) -> None:
        self.warnings.append(f"database: {where}: {message}")
