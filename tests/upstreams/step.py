"""What a player saw (`Request`), what it is to do (`Step`), and what knows a provider's format (`Wire`)."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

Ending = Literal["whole", "fin", "reset", "silence", "endless"]
Framing = Literal["length", "chunked", "close", "raw"]
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Request:
    """One request as it came in. Header names are lower case; `at` is `time.perf_counter` seconds."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    @cached_property
    def json(self) -> dict[str, Any]:
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict), "providers take JSON objects"
        return parsed


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one write, the seconds to wait before it, and what has to be so by then (the player is to be told)."""

    content: bytes
    pause_s: float = 0.0
    gate: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One answer. Its methods give a changed copy, so that a wire's own answer can be twisted.

    Args:
        framing: `length` and `chunked` as HTTP/1.1 has them, `close` ends the body with the connection,
            `raw` writes the pieces alone, without any head.
        delay_s: Seconds before the head.
        ending: After the pieces: `whole` ends the answer as HTTP wants it, `fin` and `reset` end the connection
            instead, `silence` keeps it open and writes no more, `endless` repeats the last piece until the peer goes.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    framing: Framing = "length"
    delay_s: float = 0.0
    ending: Ending = "whole"

    @property
    def body(self) -> bytes:
        return b"".join(piece.content for piece in self.pieces)

    def delayed(self, delay_s: float) -> "Step":
        return replace(self, delay_s=delay_s)

    def with_headers(self, **headers: str) -> "Step":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})

    def paced(self, pause_s: float) -> "Step":
        """Wait before each piece but the first."""
        paced = (Piece(piece.content, pause_s if index else 0.0) for index, piece in enumerate(self.pieces))
        return replace(self, pieces=tuple(paced))

    def held(self, gate: Callable[[], bool], *, pieces: int = 0) -> "Step":
        """After so many pieces, wait until this is so; whoever makes it so calls `note` of the player."""
        held = (replace(piece, gate=gate) if at == pieces else piece for at, piece in enumerate(self.pieces))
        return replace(self, pieces=tuple(held))

    def split(self, size_bytes: int = 1) -> "Step":
        """Write pieces of this size, wherever they cut."""
        return self.split_at(*range(size_bytes, len(self.body), size_bytes))

    def split_at(self, *offsets_bytes: int) -> "Step":
        bounds = [0, *offsets_bytes, len(self.body)]
        body = self.body
        return replace(self, pieces=tuple(Piece(body[a:b]) for a, b in pairwise(bounds)))

    def first(self, pieces: int) -> "Step":
        """Only so many pieces, then an end that HTTP finds in order."""
        return replace(self, pieces=self.pieces[:pieces])

    def cut(self, *, pieces: int | None = None, after_bytes: int | None = None, reset: bool = False) -> "Step":
        """Lose the connection after so many pieces or bytes of the body; a promised length stays promised."""
        kept = self.pieces[:pieces] if after_bytes is None else (Piece(self.body[:after_bytes]),)
        headers = self.headers
        if self.framing == "length":
            headers = {**headers, "content-length": str(len(self.body))}
        return replace(self, pieces=kept, headers=headers, ending="reset" if reset else "fin")

    def silent(self, *, pieces: int) -> "Step":
        return replace(self, pieces=self.pieces[:pieces], ending="silence")

    def endless(self, *, pieces: int, pause_s: float = 0.0) -> "Step":
        """After so many pieces, the last of them again and again."""
        *before, last = self.pieces[:pieces]
        return replace(self, pieces=(*before, Piece(last.content, pause_s)), ending="endless")

    def then(self, *more: bytes) -> "Step":
        return replace(self, pieces=(*self.pieces, *(Piece(content) for content in more)))


Play = Step | Callable[[Step], Step]


class Wire(Protocol):
    """One provider's format: knows its paths, its proof of identity, its answers and its errors."""

    @property
    def base_path(self) -> str:
        """What the provider's base address has after the host."""
        ...

    def answer(self, request: Request) -> Step: ...

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step: ...

    def too_long(self) -> Step:
        """The provider's own words for a prompt that does not fit."""
        ...


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_step(value: object, *, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Step:
    named = {"content-type": "application/json", **headers}
    return Step(status=status, headers=named, pieces=(Piece(compact(value)),))


def stream_step(pieces: Iterable[bytes], *, content_type: str = "text/event-stream; charset=utf-8") -> Step:
    return Step(headers={"content-type": content_type}, pieces=tuple(map(Piece, pieces)), framing="chunked")


def one_read_step(*chunks: bytes) -> Step:
    """A stream whose head, chunks and end are written at once."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    head += b"transfer-encoding: chunked\r\nx-request-id: req_up\r\n"
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return Step(pieces=(Piece(head + b"\r\n" + framed + b"0\r\n\r\n"),), framing="raw")


def raw_step(*pieces: bytes) -> Step:
    """Bytes that need not be HTTP; the connection ends after them."""
    return Step(pieces=tuple(map(Piece, pieces)), framing="raw", ending="fin")


def redirect_step(location: str, status: int = 307) -> Step:
    return Step(status=status, headers={"location": location})


def retry_headers(retry_after: str | None) -> dict[str, str]:
    return {} if retry_after is None else {"retry-after": retry_after}
