"""Takes keys out of what is about to be written: the last thing that happens to a log line before it is rendered."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from llmgateway.wire.secrets import HIDDEN, hide_keys, names_a_key, spellings

# Made by this process alone, and never the same twice: looking at them is a waste.
_OURS = frozenset({"timestamp", "request_id", "trace_id", "span_id"})
_HARMLESS = frozenset({int, float, bool, type(None)})
# Shorter ones are words that stand for "no key", such as `none` or `ollama`.
_MIN_SECRET_CHARS = 8
_MOST_KNOWN = 4096
_LONGEST_KNOWN_CHARS = 256


class Clean:
    """Hides keys in the fields of log lines: by shape, by the field's name, and the configured ones themselves.

    Nearly all that is logged was logged before, such as paths and names of models; what was found clean once is
    remembered, so that a usual line costs a microsecond.

    Args:
        secrets: Values that must not appear whatever their shape.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._forget()
        self._names: set[str] = set(_OURS)
        self.hide(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Hide these from now on, besides those of before."""
        self._secrets = spellings([*self._secrets, *secrets], min_chars=_MIN_SECRET_CHARS)
        self._forget()

    def _forget(self) -> None:
        self._known: set[str | None] = {None}
        # Whether all of these texts were found clean before: then a line with no others of strangers needs no look.
        self.knows: Callable[[Iterable[object]], bool] = self._known.issuperset

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        known = self._known
        for name, value in event.items():
            kind = value.__class__
            if kind is str:
                if value not in known and name not in _OURS and not self._is_clean(value):
                    return self._cleaned(event)
            elif kind is not int and kind is not float and kind is not bool and value is not None:
                return self._cleaned(event)
        return event if self._names.issuperset(event) else self._cleaned(event)

    def text(self, text: str) -> str:
        """Give a text without keys."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return hide_keys(text)

    def _is_clean(self, text: str) -> bool:
        if self.text(text) != text:
            return False
        if len(text) <= _LONGEST_KNOWN_CHARS:
            if len(self._known) >= _MOST_KNOWN:
                self._forget()
            self._known.add(text)
        return True

    def _cleaned(self, event: Mapping[str, Any]) -> MutableMapping[str, Any]:
        return {name: self._value(value, name) for name, value in event.items()}

    def _value(self, value: Any, name: str) -> Any:
        if name not in self._names:
            if names_a_key(name) and value.__class__ not in _HARMLESS:
                return HIDDEN
            if len(self._names) < _MOST_KNOWN:
                self._names.add(name)
        match value:
            case str():
                cleaned: Any = value if name in _OURS else self.text(value)
            case Mapping():
                cleaned = {str(inner): self._value(each, str(inner)) for inner, each in value.items()}
            case list() | tuple() | set() | frozenset():
                cleaned = [self._value(each, "") for each in value]
            case bytes() | bytearray():
                cleaned = self.text(value.decode("utf-8", "backslashreplace"))
            case _:
                shown = str(value)
                cleaned = value if (hidden := self.text(shown)) == shown else hidden
        return cleaned
