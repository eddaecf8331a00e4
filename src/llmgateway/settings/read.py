"""The environment and `.env` into `Settings`, or into ALL their faults. The only module that reads the environment."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from llmgateway.settings.fields import PREFIX, Settings, fields, is_secret, name_of
from llmgateway.settings.names import OTHER_KEY_NAMES, OTHER_NAMES


class SettingsError(Exception):
    """The environment is wrong; `faults` holds every fault, each saying what would be right."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def environment(environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")) -> dict[str, str]:
    """Merge the process's environment over `.env`; empty values count as unset, `<NAME>_FILE` is read into NAME.

    Args:
        environ: Instead of the process's own environment.
        env_file: A file of NAME=value lines; one that is not there is fine.

    Raises:
        SettingsError: A file cannot be read, or a key is given twice and differently.
    """
    merged, faults = read_environment(environ, env_file)
    if faults:
        raise SettingsError(faults)
    return merged


def load_settings(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """Make settings from the environment.

    Raises:
        SettingsError: Holds every fault: unknown names, wrong values, names that contradict each other.
    """
    merged, faults = read_environment(environ, env_file)
    faults += _unknown(merged)
    values, sources = _gather(merged, faults)
    otel = {name: value for name, value in merged.items() if name.startswith("OTEL_")}
    settings: Settings | None = None
    try:
        settings = Settings.model_validate({**values, "otel": otel, "sources": sources})
    except ValidationError as error:
        faults += [_explain(fault["loc"], fault["msg"], merged, sources) for fault in error.errors()]
    if settings is not None:
        faults += _contradictions(settings)
    if settings is None or faults:
        raise SettingsError(faults)
    return settings


def read_environment(environ: Mapping[str, str] | None, env_file: Path | None) -> tuple[dict[str, str], list[str]]:
    """Do what `environment` does, and give the faults beside it: for whoever wants to say all that is wrong."""
    if environ is None:
        environ = os.environ  # noqa: TID251  # here, and nowhere else
    written: Mapping[str, str | None] = {}
    if env_file is not None and env_file.is_file():
        written = dotenv_values(env_file, interpolate=False)
    merged = {name: value for name, given in {**written, **environ}.items() if (value := (given or "").strip())}
    faults = _read_files(merged)
    for other, usual in OTHER_KEY_NAMES.items():
        if other in merged and merged.setdefault(usual, merged[other]) != merged[other]:
            faults.append(f"{other} and {usual} are both set, to different values; keep one")
    return merged, faults


def _read_files(merged: dict[str, str]) -> list[str]:
    secrets = {name_of(path) for path, field in fields() if is_secret(field)}
    faults = []
    for file_name in [name for name in merged if name.endswith("_FILE")]:
        name = file_name.removesuffix("_FILE")
        if name not in secrets and not name.endswith("_API_KEY"):
            continue
        try:
            content = Path(merged[file_name]).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{file_name}: the file cannot be read ({type(error).__name__}); name a readable text file")
            continue
        if content and merged.setdefault(name, content) != content:
            faults.append(f"{name} and {file_name} are both set, to different values; keep one")
    return faults


def _unknown(merged: Mapping[str, str]) -> list[str]:
    known = {name_of(path) for path, _ in fields()}
    known |= {name_of(path) + "_FILE" for path, field in fields() if is_secret(field)}
    faults = []
    for name in sorted(name for name in merged if name.startswith(PREFIX) and name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        faults.append(f"{name}: there is no such setting; the nearest is {near}")
    return faults


def _gather(merged: Mapping[str, str], faults: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Collect values as nested mappings; `faults` grows by what contradicts itself or has no such unit."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for path, _ in fields():
        given = dict(_given(path, merged, faults))
        if not given:
            continue
        (name, value), *others = given.items()
        for other, its_value in others:
            if _plain(its_value) != _plain(value):
                faults.append(f"{name} and {other} are both set and differ; keep one of them")
        sources[path] = name
        *groups, last = path.split(".")
        here = values
        for group in groups:
            here = here.setdefault(group, {})
        here[last] = value
    return values, sources


def _given(path: str, merged: Mapping[str, str], faults: list[str]) -> Iterator[tuple[str, str]]:
    own = name_of(path)
    if own in merged:
        yield own, merged[own]
    for name, divisor in OTHER_NAMES.get(path, {}).items():
        if name not in merged:
            continue
        try:
            value = merged[name] if divisor == 1 else str(float(merged[name]) / divisor)
        except ValueError:
            faults.append(f"{name}: {merged[name]!r} is not a number; milliseconds, for example 500")
            continue
        yield name, value


def _plain(value: str) -> object:
    folded = value.strip().casefold()
    if folded in {"true", "yes", "on"}:
        return 1.0
    if folded in {"false", "no", "off"}:
        return 0.0
    try:
        return float(folded)
    except ValueError:
        return value.strip()


def _explain(loc: tuple[int | str, ...], message: str, merged: Mapping[str, str], sources: Mapping[str, str]) -> str:
    by_path = dict(fields())
    path = next(path for n in range(len(loc), 0, -1) if (path := ".".join(map(str, loc[:n]))) in by_path)
    field, name = by_path[path], sources[path]
    shown = "" if is_secret(field) else f"{merged[name]!r}: "
    example = field.examples[0] if field.examples else field.default
    return f"{name}: {shown}{message[:1].lower()}{message[1:]}; for example {example}"


def _contradictions(settings: Settings) -> list[str]:
    faults = []
    for path, group in (("retry", settings.retry), ("retry.jobs", settings.retry.jobs)):
        if group.min_delay_s > group.max_delay_s:
            low, high = name_of(f"{path}.min_delay_s"), name_of(f"{path}.max_delay_s")
            faults.append(f"{low} ({group.min_delay_s:g}) is more than {high} ({group.max_delay_s:g}); make it less")
    if settings.max_body_bytes > settings.max_inflight_body_bytes:
        faults.append(f"{name_of('max_body_bytes')} is more than {name_of('max_inflight_body_bytes')}; make it less")
    return faults
