"""Every path that is no model call is served, and by whom it may be asked."""

from tests.api.ledger.books import ready
from tests.conftest import Serve

OPEN = ("/", "/v1/", "/health", "/livez", "/readyz", "/openapi.json", "/docs")
OWN = ("/v1/models", "/v1/usage", "/v1/requests/req_0")
OPERATORS = ("/metrics", "/metrics/costs", "/metrics/trends", "/metrics/performance", "/health/detailed")
ADMIN = (
    *("/admin/keys", "/admin/organizations", "/admin/providers", "/admin/deployments", "/admin/cache"),
    *("/admin/limits", "/admin/audit", "/admin/catalog"),
)


async def test_all_are_served_to_whoever_sits_at_the_machine(gateway: Serve) -> None:
    g = await gateway()
    await ready(g)

    for path in (*OPEN, *OWN, *OPERATORS, *ADMIN):
        asked = {"key_id": "key_0"} if path == "/admin/limits" else None
        answer = await g.client.get(path, params=asked)

        assert answer.status_code in {200, 404}, path
        assert "Unknown path" not in answer.text


async def test_with_keys_strangers_see_the_open_ones_alone(gateway: Serve) -> None:
    g = await gateway(auth__mode="client", admin_key="a" * 32)
    await ready(g)

    assert {(await g.client.get(path)).status_code for path in OPEN} == {200}
    for path in (*OWN, *OPERATORS, *ADMIN):
        answer = await g.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path
