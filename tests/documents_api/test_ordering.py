from typing import Any

import pytest
from starlette.requests import Request

from llmgateway.documents_api.ordering import order_asked, order_of_file, order_of_json, traceparent_of
from llmgateway.errors import UnprocessableError
from llmgateway.exchange import Exchange, Trace

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="C:\\docs\\a.txt"\r\n'
    b"Content-Type: text/plain; charset=latin-1\r\n\r\nd\xe9j\xe0 vu\r\n"
    b'--x\r\nContent-Disposition: form-data; name="flavor_id"\r\n\r\n\r\n'
    b'--x\r\nContent-Disposition: form-data; name="language"\r\n\r\nFrench\r\n--x--\r\n'
)


def request(body: bytes, media_type: str = "application/json", **headers: str) -> Request:
    exchange = Exchange(path="/api/v1/services/minutes/execute", trace=Trace(trace_id=0xA, span_id=0xB, sampled=True))
    given = {"content-type": media_type, **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": exchange.path,
        "path_params": {"service_id": "minutes"},
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "exchange": exchange,
        "body": body,
    }
    return Request(scope)


async def test_an_order_knows_the_request_that_it_came_with() -> None:
    asked = request(b'{"input": "Hi.\\r\\nHo.", "instructions": "Be brief."}', **{"idempotency-key": "once"})
    order = await order_of_json(asked)

    assert (order.service, order.text, order.extras.instructions) == ("minutes", "Hi.\nHo.", "Be brief.")
    assert order.idempotency_key == "/api/v1/services/minutes/execute once"
    assert order.body_digest
    assert order.request_id == asked.scope["exchange"].id
    assert order.trace == "00-0000000000000000000000000000000a-000000000000000b-01"


async def test_a_file_is_read_as_what_it_is() -> None:
    order = await order_of_file(request(FORM, "multipart/form-data; boundary=x"))

    assert (order.text, order.file_name, order.flavor, order.extras.language) == ("déjà vu", "a.txt", None, "French")
    assert order.body_digest is None


async def test_either_form_is_an_order() -> None:
    assert (await order_asked(request(b'{"input": "Hi."}'))).file_name is None
    assert (await order_asked(request(FORM, "Multipart/Form-Data; boundary=x"))).file_name == "a.txt"


async def test_a_long_text_is_read_apart() -> None:
    order = await order_of_json(request(b'{"input": "%s"}' % (b"Hi there. " * 5000)))

    assert len(order.text) == 50_000


def test_without_a_trace_there_is_none() -> None:
    assert traceparent_of(Exchange()) is None


async def test_a_forms_own_encoding_is_not_believed() -> None:
    for charset in ("punycode", "utf-7", "unicode_escape", "undefined"):
        order = await order_of_file(request(FORM, f"multipart/form-data; charset={charset}; boundary=x"))

        assert order.extras.language == "French"
    quoted = FORM.replace(b"--x", b"--a;charset=b")
    assert (await order_of_file(request(quoted, 'multipart/form-data; boundary="a;charset=b"'))).text == "déjà vu"


@pytest.mark.parametrize("field", ["metadata", "context"])
async def test_a_field_nested_without_end_is_refused(field: str) -> None:
    nested = f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{"[" * 100_000}\r\n'.encode()

    with pytest.raises(UnprocessableError, match="must be JSON"):
        await order_of_file(request(nested + FORM, "multipart/form-data; boundary=x"))


async def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(UnprocessableError, match="boundary"):
        await order_of_file(request(FORM, "multipart/form-data"))
