"""Keys made by an administrator, as a platform team makes them."""

from typing import Any

import anyio
import httpx2

from tests.running import NO_TLS

ADMIN_KEY = "admin-key-of-the-tests-0123456789abcdef"


async def administer(url: str, method: str, path: str, **body: Any) -> dict[str, Any]:
    """Ask for an act of administration; its answer may hold a key, this once, so that no leak is looked for in it."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx2.AsyncClient(base_url=url, timeout=20, headers=headers, verify=NO_TLS) as client:
        with anyio.fail_after(20):
            while True:
                answer = await client.request(method, path, json=body if method != "GET" else None)
                if answer.status_code != 503:  # the database opens a moment after the start
                    break
                await anyio.sleep(0.05)
    assert answer.status_code < 300, answer.text
    told: dict[str, Any] = answer.json() if answer.content else {}
    return told


async def make_key(url: str, **fields: Any) -> dict[str, Any]:
    """Make a key; `key` is what its holder sends."""
    return await administer(url, "POST", "/admin/keys", **{"name": "test", **fields})


async def make_organization(url: str, organization_id: str, **fields: Any) -> dict[str, Any]:
    """Make what several keys can belong to."""
    return await administer(
        url, "POST", "/admin/organizations", **{"id": organization_id, "name": organization_id, **fields}
    )
