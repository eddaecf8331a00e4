import ssl
from pathlib import Path

import pytest
import trustme

from llmgateway.stores.redis.address import read_address


def test_a_url_says_where_redis_is_and_who_asks() -> None:
    address = read_address("redis://gate:p%40ss@cache.internal:6380/3")

    assert (address.host, address.port, address.database) == ("cache.internal", 6380, 3)
    assert (address.user, address.password) == ("gate", "p@ss")


def test_a_url_may_leave_out_almost_everything() -> None:
    address = read_address("redis://cache")

    assert (address.port, address.database, address.user, address.password) == (6379, 0, None, None)
    assert read_address("redis://cache?db=2").database == 2
    assert read_address("redis://:secret@cache").user is None


def test_what_people_see_of_an_address_has_no_password() -> None:
    address = read_address("rediss://gate:hunter22@cache:6380/1")

    assert address.shown == "rediss://cache:6380/1"
    assert "hunter22" not in repr(address)


@pytest.mark.parametrize("url", ["http://cache", "redis://", "cache:6379", "redis://cache:port/0", "redis://cache/one"])
def test_what_is_no_url_of_redis_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://host:6379/0"):
        read_address(url)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown option `sll_ca_certs`.*ssl_ca_certs"):
        read_address("rediss://cache?sll_ca_certs=/ca.pem")


def test_pitfall_080_the_scheme_alone_says_whether_it_is_tls() -> None:
    assert read_address("redis://cache").ssl_context() is None
    context = read_address("rediss://cache").ssl_context()

    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(ValueError, match="rediss://"):
        read_address("redis://cache?ssl_cert_reqs=none")


def test_options_of_tls_are_heeded(tmp_path: Path) -> None:
    ca, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("gateway").private_key_and_cert_chain_pem.write_to_path(own)
    trusting = read_address("rediss://cache?ssl_cert_reqs=none").ssl_context()
    careful = read_address(
        f"rediss://cache?ssl_ca_certs={ca}&ssl_certfile={own}&ssl_check_hostname=false"
    ).ssl_context()

    assert trusting is not None
    assert trusting.verify_mode is ssl.CERT_NONE
    assert careful is not None
    assert careful.verify_mode is ssl.CERT_REQUIRED
    assert not careful.check_hostname


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        read_address("rediss://cache?ssl_ca_certs=/no/such/file").ssl_context()
