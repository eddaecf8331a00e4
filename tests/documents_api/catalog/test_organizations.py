import pytest

from tests.conftest import Serve
from tests.running import opened

ADMIN = {"Authorization": f"Bearer {'a' * 40}"}


async def test_organizations_are_made_read_changed_and_removed(gateway: Serve) -> None:
    served = await gateway(admin_key="a" * 40)
    await opened(served.client)
    paths = "/api/v1/organizations"

    made = await served.client.post(paths, json={"id": "acme", "name": "Acme"}, headers=ADMIN)
    assert made.status_code == 201
    listed = (await served.client.get(f"{paths}?page_size=10", headers=ADMIN)).json()
    assert [one["id"] for one in listed["items"]] == ["acme"]
    changed = await served.client.patch(f"{paths}/acme", json={"name": "Acme & Co"}, headers=ADMIN)
    assert changed.json()["name"] == "Acme & Co"
    assert (await served.client.get(f"{paths}/acme", headers=ADMIN)).json() == changed.json()
    assert (await served.client.delete(f"{paths}/acme", headers=ADMIN)).status_code == 200
    gone = await served.client.get(f"{paths}/acme", headers=ADMIN)
    assert (gone.status_code, gone.json()["error_code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nobody_but_an_administrator_sees_them(gateway: Serve, method: str) -> None:
    served = await gateway(admin_key="a" * 40)

    answer = await served.client.request(method, "/api/v1/organizations", json={"name": "Acme"})

    assert answer.status_code == 403
    assert answer.json()["error_code"] == "ADMIN_REQUIRED"


async def test_a_person_at_the_machine_is_one_where_nobody_has_keys(gateway: Serve) -> None:
    served = await gateway()
    await opened(served.client)

    made = await served.client.post("/api/v1/organizations", json={"name": "Mine"})

    assert made.status_code == 201, made.text
    assert (await served.client.get("/admin/organizations")).json()["total"] == 1
