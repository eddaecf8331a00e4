"""What a stream has sent so far, kept so that it can be counted should the stream end without its usage."""

from llmgateway.wire.texts import strings_of_events, unescaped

_MOST_RAW_BYTES = 32 * 1024
_MOST_TEXT_BYTES = 4 * 1024 * 1024
# Enough for the last event of each of several choices, and a usage.
_TAIL_BYTES = 8 * 1024


class Heard:
    """Keeps events as they are, and of the older ones only the text: a chunk costs a tenth of a microsecond, and half
    a microsecond where the stream is long.
    """  # noqa: D205  one sentence

    __slots__ = ("_chunks", "_last", "_raw_bytes", "_strings", "_strings_bytes", "beyond_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._raw_bytes = 0
        self._last = b""
        self._strings: list[bytes] = []
        self._strings_bytes = 0
        # Text that is no longer kept: nobody can count it, only guess.
        self.beyond_bytes = 0

    def append(self, chunk: bytes) -> None:
        """Take whole events, one or more."""
        self._chunks.append(chunk)
        self._raw_bytes += len(chunk)
        if self._raw_bytes > _MOST_RAW_BYTES:
            self._take_out()

    def text(self) -> str:
        """All text, reasoning and arguments of tool calls so far; of several choices one after the other."""
        return unescaped(b"".join((*self._strings, strings_of_events(b"".join(self._chunks)))))

    def tail(self) -> bytes:
        """The last events as they came, whole."""
        return _end_of(self._last + b"".join(self._chunks))

    def _take_out(self) -> None:
        raw = b"".join(self._chunks)
        self._chunks.clear()
        self._raw_bytes = 0
        self._last = _end_of(raw)
        strings = strings_of_events(raw)
        if self._strings_bytes + len(strings) > _MOST_TEXT_BYTES:
            self.beyond_bytes += len(strings)
            return
        self._strings.append(strings)
        self._strings_bytes += len(strings)


def _end_of(raw: bytes) -> bytes:
    """Give the last events that fit; of one that is longer, nothing."""
    if len(raw) <= _TAIL_BYTES:
        return raw
    return raw[-_TAIL_BYTES:].partition(b"\n\n")[2]
