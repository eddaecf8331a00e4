"""Where Redis is, and how it is spoken to: `redis://` is plain and `rediss://` is TLS, whatever else the URL says."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_PORT = 6379
# The names that redis-py gives them, which people have in their URLs.
_OPTIONS = ("db", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_FALSE = ("false", "0", "no")


@dataclass(frozen=True, slots=True)
class Address:
    """One Redis.

    Args:
        options: Of TLS, from the URL's query.
    """

    host: str
    port: int
    tls: bool
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The address for people: without user and password."""
        return f"redis{'s' if self.tls else ''}://{self.host}:{self.port}/{self.database}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Make what TLS needs, `None` for a plain connection: it reads files, so call it in a thread.

        Raises:
            OSError: A file that the URL names is not there, or not what it should be.
        """
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.options.get("ssl_ca_certs"))
        if self.options.get("ssl_check_hostname", "true").lower() in _FALSE:
            context.check_hostname = False
        if self.options.get("ssl_cert_reqs", "required").lower() == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate := self.options.get("ssl_certfile"):
            context.load_cert_chain(certificate, self.options.get("ssl_keyfile"))
        return context


def read_address(url: str) -> Address:
    """Read a URL such as `rediss://user:password@redis:6379/0?ssl_ca_certs=/etc/ca.pem`.

    Raises:
        ValueError: It is none; the message says why, without the password.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("the URL of Redis must look like redis://host:6379/0 or, with TLS, rediss://host:6379/0")
    options = dict(parse_qsl(parts.query))
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"unknown option `{name}` in the URL of Redis; there are {', '.join(_OPTIONS)}")
        if name.startswith("ssl_") and parts.scheme == "redis":
            raise ValueError(f"`{name}` in the URL of Redis is for TLS: write rediss:// if that is meant")
    try:
        port, database = parts.port or _PORT, int(parts.path.strip("/") or options.get("db") or 0)
    except ValueError:
        raise ValueError("port and database in the URL of Redis must be numbers: redis://host:6379/0") from None
    return Address(
        parts.hostname,
        port,
        tls=parts.scheme == "rediss",
        database=database,
        user=_plain(parts.username),
        password=_plain(parts.password),
        options=options,
    )


def _plain(text: str | None) -> Any:
    return unquote(text) if text else None
