import pytest
from starlette.types import Receive, Scope, Send

from llmgateway.errors import PermissionDeniedError
from llmgateway.middleware.origins import Origins
from tests.asgi import Client, scope_of

HOST = "gateway.example.com"


async def enters(method: str, *allowed: str, **headers: str) -> bool:
    entered = []

    async def inside(scope: Scope, _: Receive, __: Send) -> None:
        entered.append(scope)

    given = {"host": HOST, **headers}
    client = Client()
    await Origins(inside, allowed=allowed)(scope_of(method, headers=given), client.receive, client.send)
    return bool(entered)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"https://{HOST}:8443", f"https://evil.{HOST}", ""])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
async def test_a_foreign_page_changes_nothing(method: str, origin: str) -> None:
    with pytest.raises(PermissionDeniedError, match="CORS_ORIGINS") as caught:
        await enters(method, origin=origin)

    assert caught.value.code == "origin_not_allowed"


@pytest.mark.parametrize("origin", [f"https://{HOST}", f"http://{HOST}:80", f"https://{HOST}:443"])
async def test_the_gateways_own_page_and_programs_do(origin: str) -> None:
    assert await enters("POST", origin=origin)
    assert await enters("POST")


async def test_what_changes_nothing_is_for_cors_to_say() -> None:
    assert await enters("GET", origin="https://evil.example")


async def test_pages_that_are_allowed_come_in() -> None:
    assert await enters("POST", "https://App.example", origin="https://app.example")
    assert await enters("DELETE", "*", origin="https://evil.example")
