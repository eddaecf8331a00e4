import pytest

from llmgateway.errors import PermissionDeniedError
from llmgateway.keys.origins import check_origin

HOST = (b"host", b"gateway.example.com")


def test_a_page_of_this_host_or_no_page_may_ask() -> None:
    check_origin([HOST], frozenset(), "may not")
    check_origin([HOST, (b"origin", b"https://Gateway.example.com")], frozenset(), "may not")
    check_origin([HOST, (b"origin", b"https://app.example")], frozenset({"https://app.example"}), "may not")


@pytest.mark.parametrize("origin", [b"http://[a", b"null", b"https://evil.example", b""])
def test_an_origin_that_is_another_or_no_address_is_foreign(origin: bytes) -> None:
    with pytest.raises(PermissionDeniedError, match="may not eat here: allow it in LLMGATEWAY_CORS_ORIGINS"):
        check_origin([HOST, (b"origin", origin)], frozenset(), "may not eat here")
