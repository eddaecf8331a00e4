"""Which job is next: the most urgent one; among equals the organizations take turns; among those, the oldest."""

from typing import Any

from tests.conftest import Serve
from tests.e2e.services.asking import ask, ended, order
from tests.e2e.services.scribe import Scribe, add_flavor, make_service
from tests.e2e.services.tenants import CLIENTS, tenant
from tests.upstreams.server import Player

ONE_THREAD: dict[str, Any] = {"worker_threads": 1}


def named(scribe: Scribe) -> list[str]:
    """The jobs in the order in which a model was asked for them; each has a document of one word."""
    return [text.strip() for text in scribe.asked]


def busy(provider: Player) -> list[bool]:
    """Hold every answer until the list holds something."""
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))
    return free


async def test_a_free_worker_takes_the_most_urgent_job(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe
) -> None:
    g = await gateway(catalog, **ONE_THREAD)
    service = await make_service(g.client)
    await add_flavor(g.client, service, "background", priority=9)
    free = busy(provider)

    jobs = [await order(g.client, "busy")]
    await provider.until(lambda: provider.requests_total == 1, 20)
    orders: list[tuple[str, dict[str, Any]]] = [
        ("nine", {"flavor_name": "background"}),
        ("five", {}),
        ("seven", {"priority": 7}),
        ("zero", {"priority": 0}),
        ("five-later", {"priority": 5}),
        ("one", {"flavor_name": "background", "priority": 1}),
    ]
    jobs += [await order(g.client, text, **more) for text, more in orders]
    waiting = [(await ask(g.client, "GET", f"/jobs/{job_id}"))["status"] for job_id in jobs]
    free.append(True)
    provider.note()
    for job_id in jobs:
        await ended(g.client, job_id)

    assert waiting[1:] == ["queued"] * 6
    assert named(scribe) == ["busy", "zero", "one", "five", "five-later", "seven", "nine"]


async def test_an_urgent_call_overtakes_the_jobs_that_wait(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe
) -> None:
    g = await gateway(catalog, **ONE_THREAD)
    await make_service(g.client)
    free = busy(provider)
    jobs = [await order(g.client, f"job-{number}") for number in range(3)]
    await provider.until(lambda: provider.requests_total == 1, 20)

    body = {"model": "service/notes", "messages": [{"role": "user", "content": "call"}], "service": {"priority": 0}}
    async with g.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)  # it is ordered by then
        free.append(True)
        provider.note()
        text = "".join([line async for line in lines])
    for job_id in jobs:
        await ended(g.client, job_id)

    assert "CALL" in text
    assert named(scribe) == ["job-0", "call", "job-1", "job-2"]


async def test_organizations_take_turns_however_much_one_has_ordered(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe
) -> None:
    g = await gateway(catalog, **CLIENTS, **ONE_THREAD)
    acme, beta, gamma = [await tenant(g, name) for name in ("acme", "beta", "gamma")]
    services = {}
    for name, who in (("acme", acme), ("beta", beta), ("gamma", gamma)):
        services[name] = (await make_service(who.client))["id"]
    free = busy(provider)
    jobs = [(acme, await order(acme.client, "acme-busy", services["acme"]))]
    await provider.until(lambda: provider.requests_total == 1, 20)

    jobs += [(acme, await order(acme.client, f"acme-{number}", services["acme"])) for number in range(4)]
    jobs += [(beta, await order(beta.client, f"beta-{number}", services["beta"])) for number in range(2)]
    jobs.append((gamma, await order(gamma.client, "gamma-0", services["gamma"])))
    jobs.append((acme, await order(acme.client, "acme-urgent", services["acme"], priority=4)))
    free.append(True)
    provider.note()
    for who, job_id in jobs:
        await ended(who.client, job_id)

    asked = named(scribe)
    assert asked[:2] == ["acme-busy", "acme-urgent"]
    assert set(asked[2:4]) == {"beta-0", "gamma-0"}
    owners = [text.partition("-")[0] for text in asked[4:]]
    assert owners.index("beta") <= 1
    assert [text for text in asked if text.startswith("acme-") and text[-1].isdigit()] == [
        f"acme-{number}" for number in range(4)
    ]


async def test_one_thread_runs_one_job_at_a_time(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, **ONE_THREAD)
    await make_service(g.client)
    most = 0

    def counted(step: Any) -> Any:
        nonlocal most
        most = max(most, provider.in_flight + 1)
        return step

    provider.always(counted)
    jobs = [await order(g.client, f"One {number}.\n\nTwo.\n\nThree.") for number in range(4)]
    for job_id in jobs:
        await ended(g.client, job_id)

    assert most == 1
