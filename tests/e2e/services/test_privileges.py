"""What nobody gets by way of services that he would not get without: other models, other people's money."""

import textwrap
from pathlib import Path
from typing import Any

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY
from tests.e2e.services.asking import ask, ended, order
from tests.e2e.services.scribe import Scribe, make_service
from tests.e2e.services.tenants import CLIENTS, As, tenant
from tests.upstreams.server import Player

OWN_KEY = {"Authorization": "Bearer sk-proj-of-the-client-0001"}
SAID: dict[str, Any] = {"model": "service/summarize", "messages": [{"role": "user", "content": "Ada sings."}]}


async def test_a_providers_own_key_runs_no_service_at_our_cost(gateway: Serve, catalog: str, provider: Player) -> None:
    accepting = catalog.replace("api_key: sk-upstream,", "api_key: sk-upstream, accept_client_keys: true,")
    g = await gateway(accepting, auth__mode="hybrid", admin_key=ADMIN_KEY)

    answers = [
        await g.client.post("/v1/chat/completions", json=SAID, headers={**OWN_KEY, **more})
        for more in ({}, {"X-Dry-Run": "true"})
    ]
    answers.append(await g.client.get("/api/v1/services", headers=OWN_KEY))

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert provider.requests_total == 0
    assert (await ask(As(g.client, ADMIN_KEY), "GET", "/jobs"))["total"] == 0


async def test_a_key_gets_no_other_model_by_a_service_of_its_own(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog, **CLIENTS)
    premium = await make_service(As(g.client, ADMIN_KEY), "Premium", model="other")
    limited = (await tenant(g, "acme", models=["chat"])).client
    rich = (await tenant(g, None, organization_id="acme")).client
    flavor_id = premium["flavors"][0]["id"]

    for link in ("fallback_flavor_id", "failover_flavor_id"):
        body = {"name": "Mine", "flavors": [{"name": "one", "model": "chat", link: flavor_id}]}
        await ask(limited, "POST", "/services", 403, json=body)
    # One that somebody else of the organization has made is no way either.
    single = {"processing_mode": "single_pass", "fallback_flavor_id": flavor_id}
    theirs = {"name": "Theirs", "flavors": [{"name": "one", "model": "chat", **single}]}
    await ask(rich, "POST", "/services", 201, json=theirs)
    refused = await ask(limited, "POST", "/services/theirs/execute", 403, json={"input": "Ada sings. " * 60_000})

    assert refused["error_code"] == "MODEL_NOT_ALLOWED"
    assert provider.requests_total == 0


async def test_a_key_that_was_narrowed_meanwhile_goes_on_with_nothing_else(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, **CLIENTS)
    mine = (await tenant(g, "acme", models=["chat", "other"])).client
    await make_service(mine, "Notes", model="other")
    narrow = (await tenant(g, None, organization_id="acme", models=["chat"])).client

    await ask(narrow, "POST", "/services/notes/execute", 403, json={"input": "Ada sings."})
    job = await ended(mine, await order(mine, "Ada sings."))
    # All keys of an organization see its jobs, and run none that they may not.
    assert (await ask(narrow, "GET", f"/jobs/{job['id']}"))["result"]
    await ask(narrow, "POST", f"/jobs/{job['id']}/rerun", 403, json={})


async def test_a_foreign_page_orders_nothing_where_nobody_needs_a_key(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    service = await make_service(g.client)
    # What a browser sends to any address without asking it first.
    foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}

    answers = [
        await g.client.post(
            f"/api/v1{path}", content=b'{"input": "Ada sings.", "organization_id": "acme"}', headers=foreign
        )
        for path in ("/services/notes/execute", "/services", f"/services/{service['id']}/flavors", "/jobs/x/cancel")
    ]

    assert {answer.status_code for answer in answers} == {403}
    assert {answer.json()["error_code"] for answer in answers} == {"ORIGIN_NOT_ALLOWED"}
    assert provider.requests_total == 0
    own = {"Origin": g.url}
    ordered = await g.client.post("/api/v1/services/notes/execute", json={"input": "Ada sings."}, headers=own)
    # A gateway that ends would wait for it, and the provider ends before.
    await ended(g.client, ordered.json()["job_id"])


async def test_pitfall_135_what_is_kept_of_jobs_holds_no_key(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe, tmp_path: Path
) -> None:
    secret = "webhook-canary-0123456789abcdef0123"  # noqa: S105  planted
    g = await gateway(f"{textwrap.dedent(catalog)}\nwebhooks: {{secret: {secret}, allow_private: true}}", **CLIENTS)
    mine = await tenant(g, "acme")
    await make_service(mine.client)
    body = {"webhook_url": f"{provider.url}/hook", "instructions": "Sing of the blue canary bird."}
    done = await ended(mine.client, await order(mine.client, "The blue canary sings.", **body))
    # An upstream that repeats the key that it was sent.
    provider.always(scribe.error(401, "Incorrect API key provided: sk-upstream. Sent by the blue canary."))
    failed = await ended(mine.client, await order(mine.client, "The red canary sings."), "failed")
    events = await mine.client.get(f"/api/v1/jobs/{failed['id']}/events")

    assert done["status"] == "completed"
    assert "event: error" in events.text
    for key in ("sk-upstream", secret, mine.key, ADMIN_KEY):
        assert key not in events.text
        assert key not in str(failed)
        assert not [
            path for path in (tmp_path / "data").rglob("*") if path.is_file() and key.encode() in path.read_bytes()
        ]
    told = "\n".join(map(str, g.logs()))
    assert "canary sings" not in told
    assert "blue canary" not in told
