"""Two organizations on one gateway, each with keys, services and jobs of its own."""

from dataclasses import dataclass, field
from typing import Any

import httpx2

from llmgateway.ids import new_uuid
from tests.e2e.made_keys import ADMIN_KEY, make_key, make_organization
from tests.e2e.services.asking import ask, ran
from tests.e2e.services.scribe import make_service
from tests.running import Running

# In every text of the one who is to be spied on.
CANARY = "canary"
CLIENTS: dict[str, Any] = {"auth__mode": "client", "admin_key": ADMIN_KEY}


@dataclass(frozen=True, slots=True)
class As:
    """Asks with a key."""

    client: httpx2.AsyncClient
    key: str

    async def request(self, method: str, url: str, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        return await self.client.request(method, url, headers=headers, **more)

    async def get(self, url: str, **more: Any) -> httpx2.Response:
        return await self.request("GET", url, **more)

    async def post(self, url: str, **more: Any) -> httpx2.Response:
        return await self.request("POST", url, **more)


@dataclass
class Tenant:
    """One organization's client and what it has."""

    client: As
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.client.key


async def tenant(g: Running, name: str | None, **fields: Any) -> Tenant:
    """Make an organization, and a key of it; `None` is a key of nobody's."""
    if name is not None:
        await make_organization(g.url, name)
        fields["organization_id"] = name
    key = (await make_key(g.url, limits={"requests_per_minute": 100_000, "burst": 10_000}, **fields))["key"]
    return Tenant(As(g.client, key))


async def furnish(tenant: Tenant) -> None:
    """Give it one of everything; its texts hold the canary."""
    client = tenant.client
    service = await make_service(client, f"Notes {CANARY}")
    prompt = {"name": f"Prompt {CANARY}", "content": f"{CANARY} {{{{document}}}}", "category": "user"}
    made_prompt = await ask(client, "POST", "/prompts", 201, json=prompt)
    preset = {"name": f"Preset {CANARY}", "settings": {"temperature": 0.5}}
    made_preset = await ask(client, "POST", "/flavor-presets", 201, json=preset)
    template = {"name": f"Template {CANARY}", "service": {"name": CANARY}, "flavors": [{"name": "one"}]}
    made_template = await ask(client, "POST", "/service-templates", 201, json=template)
    job = await ran(client, f"A {CANARY} sings.", service["id"], metadata={"bird": CANARY})
    tenant.ids = {
        "service_id": service["id"],
        "flavor_id": service["flavors"][0]["id"],
        "job_id": job["id"],
        "prompts": made_prompt["id"],
        "flavor-presets": made_preset["id"],
        "service-templates": made_template["id"],
        "request_id": job["request_id"],
        "pass_request_id": job["passes"][0]["request_id"],
        "route": service["route"],
        "organization_id": "acme",
    }


def of_nothing(ids: dict[str, str]) -> dict[str, str]:
    """Give ids of the same form that nothing has."""
    return {name: new_uuid() if len(value) == 36 else "nothing-of-this-name" for name, value in ids.items()}
