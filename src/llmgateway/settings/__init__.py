"""How a process runs: the environment and `.env`, read once into frozen `Settings`.

What is on offer (providers, models) is the catalog's.
"""

from llmgateway.settings.fields import Settings, fields, name_of, secret_values
from llmgateway.settings.names import OTHER_NAMES
from llmgateway.settings.read import SettingsError, environment, load_settings, read_environment
from llmgateway.settings.verdicts import unsafe, warnings, without_effect

__all__ = [
    "OTHER_NAMES",
    "Settings",
    "SettingsError",
    "environment",
    "fields",
    "load_settings",
    "name_of",
    "read_environment",
    "secret_values",
    "unsafe",
    "warnings",
    "without_effect",
]
