import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import pytest

from llmgateway.errors import InvalidRequestError
from llmgateway.jobs.hooks.address import ForbiddenAddressError, Lookup, check_url, is_public, resolved

PUBLIC = "93.184.216.34"
PRIVATE = [
    *("127.0.0.1", "127.255.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.9"),  # noqa: S104  an address that is refused
    *("192.0.0.8", "192.88.99.1"),
    *("::", "::1", "::127.0.0.1", "fe80::1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:c0a8:101::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
]


def answers(*addresses: str) -> Lookup:
    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return lookup


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_in_somebodys_own_network_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost:8000/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"),
        # What the system's own reading of addresses takes for 127.0.0.1.
        *("http://2130706433/", "http://0x7f000001/", "http://127.1/", "http://0177.0.0.1/"),
        *("http://169.254.169.254/latest/meta-data", "http://0/"),
    ],
)
async def test_however_a_private_address_is_written_it_is_refused_as_the_job_is_ordered(url: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"not public.*webhooks\.allow_private") as refused:
        await check_url(url, allow_private=False, has_secret=True)

    assert (refused.value.param, refused.value.code) == ("webhook_url", "webhook_url_invalid")
    await check_url(url, allow_private=True, has_secret=True)


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(ForbiddenAddressError):
        await resolved("https://hooks.example", allow_private=False, lookup=answers(PUBLIC, "10.0.0.1"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "must begin with https:// or http://"),
        ("file:///etc/passwd", "must begin with https:// or http://"),
        ("//example.com/", "must begin with https:// or http://"),
        ("https://", "must name a host"),
        ("https:///path", "must name a host"),
        ("https://user:secret@example.com/", "must not hold a user or a password"),
        ("https://example.com@127.0.0.1/", "must not hold a user or a password"),
        ("https://example.com:0/", "must name a port"),
        ("https://example.com:99999/", "must name a port"),
        ("https://exa mple.com/", "must be plain ASCII"),
        ("https://example.com/\r\nX: y", "must be plain ASCII"),
        ("https://example.com\\@127.0.0.1/", "must be plain ASCII"),
        ("https://exämple.com/", "must be plain ASCII"),
        ("https://[fe80::1%25eth0]/", "must name a host"),
        ("https://exa%6dple.com/", "must name a host"),
        ("https://example.com/" + "a" * 2048, "is longer than 2048 characters"),
    ],
)
async def test_what_is_no_address_of_a_webhook_is_refused_with_what_would_be_right(url: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as refused:
        await check_url(url, allow_private=True, has_secret=True, lookup=answers(PUBLIC))

    assert "secret" not in str(refused.value)


async def test_without_a_secret_in_the_catalog_there_are_no_webhooks() -> None:
    with pytest.raises(InvalidRequestError, match=r"webhooks\.secret"):
        await check_url("https://example.com/", allow_private=False, has_secret=False, lookup=answers(PUBLIC))


async def test_a_name_that_cannot_be_looked_up_now_may_be_ordered() -> None:
    async def away(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    await check_url("https://hooks.example/", allow_private=False, has_secret=True, lookup=away)
    await check_url("https://hooks.example/", allow_private=False, has_secret=True, lookup=answers())


async def test_nobody_waits_for_ever_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.jobs.hooks.address._LOOKUP_S", 0.01)

    async def hangs(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    await check_url("https://hooks.example/", allow_private=False, has_secret=True, lookup=hangs)


@pytest.mark.parametrize(
    ("url", "authority", "port", "path"),
    [
        ("https://hooks.example", "hooks.example", 443, "/"),
        ("http://hooks.example:8080/a?b=%2F#c", "hooks.example:8080", 8080, "/a?b=%2F"),
        ("https://hooks.example:443/a", "hooks.example", 443, "/a"),
        ("http://[2606:4700::1111]:81/", "[2606:4700::1111]:81", 81, "/"),
    ],
)
async def test_a_target_has_the_name_that_was_written_and_the_address_that_was_checked(
    url: str, authority: str, port: int, path: str
) -> None:
    target = await resolved(url, allow_private=False, lookup=answers(PUBLIC, "1.1.1.1"))

    assert (target.authority, target.port, target.path, target.ip) == (authority, port, path, PUBLIC)
