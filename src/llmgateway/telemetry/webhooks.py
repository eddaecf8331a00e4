"""Tells the operator's own server of events, by HTTP, signed as Standard Webhooks has it.

A thread of its own sends them one after the other: no request and no event loop waits for whoever listens.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from anyio import to_thread
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.snapshot import Webhooks as Address
from llmgateway.ids import new_id

_PREFIX = "whsec_"
# The waits between tries: a server that is started anew, or mended within the hour, misses nothing.
WAITS_S = (1.0, 5.0, 30.0, 120.0, 600.0, 1_800.0)
_MOST_WAITING = 1_000
_CONNECT_S = 5.0
_ANSWER_S = 15.0
_MOST_ANSWER_BYTES = 64 * 1024
_FAREWELL_S = 1.5
_GONE = 410


class UnsentError(OSError):
    """No answer came; the text says why, without the address."""


class Post(Protocol):
    """Sends a request and gives the status of its answer. Raises: UnsentError."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int: ...


class _Event(Struct, frozen=True):
    id: str
    type: str
    body: bytes


class Webhooks:
    """Sends events to the address that the catalog names at that moment, if it names one.

    Args:
        address: Gives where to, and what signs.
        waits_s: Between tries; after the last one an event is given up.
        connect: Makes what sends, in the thread.
    """

    def __init__(
        self,
        address: Callable[[], Address],
        logger: FilteringBoundLogger,
        *,
        waits_s: Sequence[float] = WAITS_S,
        connect: Callable[[], Post] | None = None,
    ) -> None:
        self._address = address
        self._logger = logger
        self._waits_s = tuple(waits_s)
        self._connect = connect or _connected
        self._waiting: deque[_Event] = deque()
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._full = False
        self.sent = 0
        self.lost = 0

    def send(self, event: str, fields: Mapping[str, object]) -> None:
        """Send an event of this type; never waits, never raises.

        Args:
            event: Such as `budget.alert`.
            fields: The event's data: nothing secret, no prompt.
        """
        if self._address().alerts_url is None:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self.lost += 1
            if not self._full:
                self._full = True
                self._logger.warning(
                    "webhooks_lost", events=1, reason="too many wait", effect="further ones too, until some are sent"
                )
            return
        self._full = False
        # As the specification has it: `type`, `timestamp` of the event itself, `data`.
        body = msgspec.json.encode({"type": event, "timestamp": datetime.now(UTC), "data": fields})
        self._waiting.append(_Event(new_id("msg"), event, body))
        self._wake.set()
        if self._thread is None:
            # A daemon: a server that hangs does not keep the process alive.
            self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Try once more what waits, and end within two seconds in any case."""
        if self._thread is not None:
            await to_thread.run_sync(self._end, self._thread)

    def _end(self, thread: threading.Thread) -> None:
        self._over.set()
        self._wake.set()
        thread.join(_FAREWELL_S)
        if self._waiting:
            self._logger.warning("webhooks_lost", events=len(self._waiting), reason="the process ends")

    def _run(self) -> None:
        post = self._connect()
        while not (self._over.is_set() and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                reason = self._delivered(post, self._waiting[0])
                event = self._waiting.popleft()
                if reason is None:
                    self.sent += 1
                else:
                    self.lost += 1
                    self._logger.warning("webhook_failed", event_id=event.id, event_type=event.type, reason=reason)

    def _delivered(self, post: Post, event: _Event) -> str | None:
        """Try until it is taken; give the reason when it never is."""
        reason = "no address"
        for wait_s in (*self._waits_s, None):
            address = self._address()
            if address.alerts_url is None:
                return reason
            try:
                status = post(address.alerts_url, event.body, signed(event.id, event.body, address.secret))
            except UnsentError as error:
                reason = str(error)
            else:
                if status // 100 == 2:  # noqa: PLR2004  any success
                    return None
                reason = f"HTTP status {status}"
                if status == _GONE:
                    return reason  # the specification: whoever says so wants nothing more
            if wait_s is None or self._over.wait(wait_s * random.uniform(0.8, 1.2)):
                break
        return reason


def signed(event_id: str, body: bytes, secret: str | None, at: datetime | None = None) -> dict[str, str]:
    """Give the headers of an event: who can compute the signature knows the secret."""
    timestamp = int((at or datetime.now(UTC)).timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "llmgateway",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        text = f"{event_id}.{timestamp}.".encode() + body
        digest = hmac.digest(_key(secret), text, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key(secret: str) -> bytes:
    """Give the key's bytes: base64 after `whsec_`, as the specification has it; any other text stands for itself."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def _connected() -> Post:
    import urllib3  # noqa: PLC0415  only who is told of something pays for it

    pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, cert_reqs="CERT_REQUIRED")
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_ANSWER_S)

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        try:
            response = pool.request(
                "POST", url, body=body, headers=headers, timeout=timeout, redirect=False, preload_content=False
            )
            response.read(_MOST_ANSWER_BYTES)
            response.close()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Its text names the address, which may hold a secret of its own.
            raise UnsentError(type(error).__name__) from error
        return response.status

    return post
