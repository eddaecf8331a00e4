"""Which pages may ask: those of this host, and those that are allowed; a browser says whose page it shows."""

from collections.abc import Collection
from urllib.parse import urlsplit

from llmgateway.errors import PermissionDeniedError
from llmgateway.exchange import Header

_DEFAULT_PORTS = {"http": ":80", "ws": ":80", "https": ":443", "wss": ":443"}


def check_origin(headers: Collection[Header], allowed: frozenset[str], refusal: str) -> None:
    """Refuse a request of a page of another host.

    Args:
        headers: With their names in small letters.
        refusal: What such a page may not do.

    Raises:
        PermissionDeniedError: It is one, and not allowed.
    """
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    for name, value in headers:
        origin = value.decode("latin-1").lower()
        if name == b"origin" and not ({"*", origin} & allowed or (hosts and _is_of(origin, hosts))):
            raise PermissionDeniedError(
                f"A page of another origin {refusal}: allow it in LLMGATEWAY_CORS_ORIGINS.", code="origin_not_allowed"
            )


def _is_of(origin: str, hosts: list[str]) -> bool:
    try:
        scheme, place, *_ = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(scheme, "")
    return bool(place) and all(host.removesuffix(port) == place.removesuffix(port) for host in hosts)
