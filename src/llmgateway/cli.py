"""The command `llmgateway`: `serve`, `check`, `migrate`, `keys` and more. What is wrong is printed, not served."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from llmgateway import __version__
from llmgateway.catalog.load import CatalogError
from llmgateway.catalog.model import AUTO
from llmgateway.catalog.providers import providers
from llmgateway.catalog.snapshot import Catalog
from llmgateway.catalog.source import read_catalog
from llmgateway.cli_keys import Place, add_commands, run
from llmgateway.settings import (
    OTHER_NAMES,
    Settings,
    SettingsError,
    load_settings,
    name_of,
    read_environment,
    unsafe,
    warnings,
    without_effect,
)
from llmgateway.telemetry.traces import otlp_settings

_WRONG_USE = 2  # as argparse's own
_MOST_LISTED = 20


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command; returns the process's exit code.

    Args:
        arguments: Without the program's name; `None` takes the process's.
        environ: Instead of the process's environment and `.env`.
    """
    options = _parser().parse_args(arguments)
    if options.command == "serve":
        return _serve(options, environ)
    if options.command == "check":
        return _check(environ)
    if options.command == "migrate":
        return _migrate(environ)
    if options.command == "worker":
        return _work(options, environ)
    return _ask_keys(options, environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmgateway", description="A gateway for large language models.")
    parser.add_argument("--version", action="version", version=f"llmgateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    serve = commands.add_parser("serve", help="answer requests")
    serve.add_argument("--host", help=f"instead of {name_of('host')}")
    serve.add_argument("--port", help=f"instead of {name_of('port')}")
    serve.add_argument("--workers", help=f"instead of {name_of('workers')}")
    serve.add_argument("--reload", action="store_true", help="restart when a source file changes; for development")
    commands.add_parser("check", help="read settings and catalog, and print what is wrong and what is on offer")
    commands.add_parser("migrate", help="bring the database to this version, as `serve` does by itself")
    add_commands(commands)
    worker = commands.add_parser("worker", help="run document jobs; serves its health and its figures")
    worker.add_argument("--processes", dest="worker_processes", help=f"instead of {name_of('worker_processes')}")
    worker.add_argument("--threads", dest="worker_threads", help=f"instead of {name_of('worker_threads')}")
    worker.add_argument("--host", help=f"instead of {name_of('host')}")
    worker.add_argument("--port", dest="worker_port", help=f"instead of {name_of('worker_port')}")
    return parser


class _Read:
    """Settings and catalog as far as they are right, and all faults of both."""

    def __init__(self, environ: Mapping[str, str] | None, options: argparse.Namespace | None = None) -> None:
        self.settings: Settings | None = None
        self.catalog: Catalog | None = None
        merged, faults = read_environment(environ, Path(".env") if environ is None else None)
        self.environ = _overridden(merged, options)
        try:
            self.settings = load_settings(self.environ)
        except SettingsError as error:
            faults += error.faults
        path, required = self._catalog_path()
        try:
            self.catalog = read_catalog(path, self.environ, required=required)
        except CatalogError as error:
            faults += error.faults
        if self.settings is not None:
            faults += unsafe(self.settings) + otlp_settings.faults(self.settings.otel) + _faults_of_parts(self.settings)
        self.faults = list(dict.fromkeys(faults))

    def _catalog_path(self) -> tuple[Path, bool]:
        name = name_of("catalog")
        usual = Settings.model_fields["catalog"].default
        return Path(self.environ.get(name, usual)), name in self.environ


def _faults_of_parts(settings: Settings) -> list[str]:
    """Say what only the parts themselves can tell of their settings."""
    from llmgateway.sensitivity import own_patterns
    from llmgateway.storage.admin.sealing import Seal, SealError

    faults = []
    if settings.sensitivity.enabled:
        name = name_of("sensitivity.patterns")
        faults += [f"{name}: {fault}" for fault in own_patterns.faults(settings.sensitivity.patterns)]
    if settings.encryption_keys:
        try:
            Seal([key.get_secret_value() for key in settings.encryption_keys])
        except SealError as error:
            faults.append(f"{name_of('encryption_keys')}: {error}")
    return faults


def _overridden(environ: Mapping[str, str], options: argparse.Namespace | None) -> dict[str, str]:
    """Put the command line's settings before the environment's, whatever name those have."""
    merged = dict(environ)
    for path in ("host", "port", "workers", "worker_port", "worker_processes", "worker_threads"):
        value = getattr(options, path, None)
        if value is not None:
            for other in OTHER_NAMES.get(path, {}):
                merged.pop(other, None)
            merged[name_of(path)] = value
    return merged


def _serve(options: argparse.Namespace, environ: Mapping[str, str] | None) -> int:
    read = _Read(environ, options)
    if (settings := _right(read)) is None:
        return _WRONG_USE
    # Seconds of imports that `check` has no use for.
    from llmgateway.server import serve

    return serve(settings, read.environ, reload=options.reload)


def _work(options: argparse.Namespace, environ: Mapping[str, str] | None) -> int:
    read = _Read(environ, options)
    if (settings := _right(read)) is None:
        return _WRONG_USE
    # As for `serve`.
    from llmgateway.server import serve_worker

    return serve_worker(settings, read.environ)


def _right(read: _Read) -> Settings | None:
    """Give the settings when all is right; prints all faults otherwise."""
    if not read.faults and read.catalog is not None:
        return read.settings
    _print_all("fault", read.faults, sys.stderr)
    print("llmgateway: not started; `llmgateway check` says the same and more", file=sys.stderr)
    return None


def _check(environ: Mapping[str, str] | None) -> int:
    read = _Read(environ)
    if read.settings is not None:
        _print_all("warning", warnings(read.settings))
        _print_all("without effect yet", without_effect(read.settings))
    if read.catalog is not None:
        _print_all("warning", read.catalog.warnings)
        _print_all("without effect yet", read.catalog.without_effect)
        _print_offer(read.catalog)
    _print_all("fault", read.faults)
    print(f"faults: {len(read.faults)}")
    return 1 if read.faults else 0


def _migrate(environ: Mapping[str, str] | None) -> int:
    settings = _settings(environ)
    if settings is None:
        return _WRONG_USE
    # Half a second of imports that no other command has a use for.
    from llmgateway.storage.address import locate
    from llmgateway.storage.migrations.revisions import DatabaseNewerError
    from llmgateway.storage.migrations.upgrade import upgrade
    from llmgateway.storage.queries import StorageAwayError

    try:
        before, after = upgrade(locate(settings.database_url, settings.data_dir))
    except ValueError as error:
        print(f"fault: {error}", file=sys.stderr)
        return _WRONG_USE
    except (DatabaseNewerError, StorageAwayError) as error:
        print(f"llmgateway: not migrated: {error}", file=sys.stderr)
        return 1
    print(f"database: {before or 'empty'} -> {after}" if before != after else f"database: {after}, nothing to do")
    return 0


def _ask_keys(options: argparse.Namespace, environ: Mapping[str, str] | None) -> int:
    settings = _settings(environ)
    if settings is None:
        return _WRONG_USE
    keys = tuple(key.get_secret_value() for key in settings.encryption_keys)
    return run(options, Place(settings.database_url, settings.data_dir, keys))


def _settings(environ: Mapping[str, str] | None) -> Settings | None:
    """Read the settings alone; prints their faults when there are any."""
    merged, faults = read_environment(environ, Path(".env") if environ is None else None)
    try:
        return load_settings(merged)
    except SettingsError as error:
        _print_all("fault", list(dict.fromkeys([*faults, *error.faults])), sys.stderr)
        return None


def _print_all(kind: str, lines: Sequence[str], file: TextIO | None = None) -> None:
    for line in lines:
        print(f"{kind}: {line}", file=file)


def _print_offer(catalog: Catalog) -> None:
    for account in catalog.accounts.values():
        if account.wire == "demo":
            continue
        needed = providers()[account.provider].key_required
        key = "key set" if account.api_key else "NO KEY" if needed else "no key needed"
        name = account.name if account.name == account.provider else f"{account.name} ({account.provider})"
        print(f"provider: {name}: {account.wire} wire, {key}")
    listed = [model.id for model in catalog.listed() if model.id != AUTO]
    named = [*catalog.models]
    print(f"models: {', '.join(named[:_MOST_LISTED])}{', ...' if len(named) > _MOST_LISTED else ''}")
    if catalog.passthrough:
        patterns = ", ".join(entry.pattern for entry in catalog.passthrough)
        well_known = f"{len(listed) - len(named)} well-known ones, and any other of these providers"
        # Without accounts nothing but the demo is there to be named.
        offered = "none, because no provider has a key here" if len(catalog.accounts) == 1 else well_known
        print(f"models by name ({patterns}): {offered}")
