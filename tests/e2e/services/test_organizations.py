"""Organizations: what belongs to one is nothing to another, by whatever way it is asked for (pitfall 109)."""

import asyncio
import json
import re
from typing import Any

import httpx2
import websockets
from websockets.exceptions import ConnectionClosed

from tests.conftest import Serve
from tests.e2e.services.asking import ask, ended, order, ran
from tests.e2e.services.scribe import LINE_BY_LINE, make_service
from tests.e2e.services.tenants import CANARY, CLIENTS, As, Tenant, furnish, of_nothing, tenant
from tests.running import Running
from tests.upstreams.server import Player

_PLACE = re.compile(r"\{(\w+)\}")
_FLAVOR = {"name": "new", "model": "chat"}
# What is sent where, so that no body is refused before anybody looks whose thing it is about.
_BODIES: dict[str, dict[str, Any]] = {
    "/services/{service_id}/execute": {"input": "x"},
    "/services/{service_id}/validate-execution": {"input": "x"},
    "/services/{service_id}/flavors": _FLAVOR,
    "/services/{service_id}": {"description": "mine now"},
    "/flavors/{flavor_id}": {"description": "mine now"},
    "/flavors/{flavor_id}/test": {"prompt": "x"},
    "/jobs/{job_id}/result": {"content": "mine now"},
    "/prompts/{id}": {"description": "mine now"},
    "/flavor-presets/{id}": {"description": "mine now"},
    "/flavor-presets/{id}/apply": {"service_id": "notes"},
    "/service-templates/{id}": {"description": "mine now"},
}
_NOT_THEIRS = (
    "/providers",
    "/models",
    "/tokenizers",
    "/service-types",
    "/jobs/cleanup-expired",
    "/flavors/validate-prompt",
)


async def two(gateway: Serve, catalog: str, **settings: Any) -> tuple[Running, Tenant, Tenant]:
    """Serve one who has everything and one who spies."""
    g = await gateway(catalog, **CLIENTS, **settings)
    acme, beta = await tenant(g, "acme"), await tenant(g, "beta")
    await furnish(acme)
    return g, acme, beta


def filled(path: str, ids: dict[str, str]) -> str:
    """Put ids into a path's places."""
    kind = path.split("/")[3]

    def value(found: re.Match[str]) -> str:
        return "1" if found[1] in {"number", "first", "second"} else ids[kind if found[1] == "id" else found[1]]

    return _PLACE.sub(value, path)


def blurred(answer: httpx2.Response, ids: dict[str, str]) -> tuple[int, str]:
    """Give an answer without what differs in any case."""
    text = re.sub(r"req_\w+", "", answer.text)
    for value in ids.values():
        text = text.replace(value, "ID")
    return answer.status_code, text


def multipart(path: str) -> dict[str, Any]:
    return {"files": {"file": ("a.txt", b"x")}} if path.endswith("/run") else {}


async def test_pitfall_109_every_path_says_of_anothers_what_it_says_of_nothing(gateway: Serve, catalog: str) -> None:
    g, acme, beta = await two(gateway, catalog)
    await make_service(beta.client)
    nothing = of_nothing(acme.ids)
    paths = (await g.client.get("/openapi.json")).json()["paths"]
    before = await _everything(acme)
    asked = 0

    for path, methods in paths.items():
        place = path.removeprefix("/api/v1")
        if place == path or not _PLACE.search(path) or place.startswith(_NOT_THEIRS):
            continue
        for method in methods:
            for headers in ({}, {"Last-Event-ID": "1"}) if path.endswith("/events") else ({},):
                more = multipart(path) or ({"json": _BODIES.get(place, {})} if method in {"post", "patch"} else {})
                answers = [
                    await beta.client.request(method, filled(path, ids), headers=headers, **more)
                    for ids in (acme.ids, nothing)
                ]
                expected = 403 if place.startswith("/organizations/") else 404  # administrators alone
                assert answers[0].status_code == expected, (method, path, answers[0].text)
                assert blurred(answers[0], acme.ids) == blurred(answers[1], nothing), (method, path)
                asked += 1

    assert asked > 35
    assert await _everything(acme) == before


async def _everything(acme: Tenant) -> list[Any]:
    ids = acme.ids
    paths = ["/services/{service_id}", "/flavors/{flavor_id}", "/jobs/{job_id}", "/jobs/{job_id}/versions"]
    paths += [f"/{kind}/{{id}}" for kind in ("prompts", "flavor-presets", "service-templates")]
    return [await ask(acme.client, "GET", filled(f"/api/v1{path}", ids).removeprefix("/api/v1")) for path in paths]


async def test_lists_show_what_is_ones_own_and_what_is_everybodys(gateway: Serve, catalog: str) -> None:
    g, acme, beta = await two(gateway, catalog)
    alone = await tenant(g, None)
    kinds = ("/services", "/prompts", "/flavor-presets", "/service-templates", "/jobs", "/analytics/dashboard")

    for spy in (beta, alone):
        for kind in kinds:
            answer = await spy.client.get(f"/api/v1{kind}")
            assert answer.status_code == 200, answer.text
            assert CANARY not in answer.text, kind
            assert CANARY in (await acme.client.get(f"/api/v1{kind}")).text or kind == "/analytics/dashboard"
        # What only those may name who may act for anybody.
        assert (await spy.client.get("/api/v1/jobs", params={"organization_id": "acme"})).status_code == 404
        assert (await spy.client.get("/api/v1/jobs", headers={"X-Organization-ID": "acme"})).status_code == 404
        assert (await spy.client.get("/v1/models")).text.count(CANARY) == 0
        assert (await spy.client.get("/v1/usage")).json()["total"]["prompt_tokens"] == 0
    # Whoever asks for a new one that is not there is let wait a little.
    for spy, name in ((beta, "request_id"), (alone, "pass_request_id"), (beta, "job_id")):
        assert (await spy.client.get(f"/v1/requests/{acme.ids[name]}")).status_code == 404


async def test_a_job_of_another_is_no_job_on_a_socket(gateway: Serve, catalog: str) -> None:
    g, acme, beta = await two(gateway, catalog)

    for place in ("", "?last_event_id=1", "?last_event_id=999"):
        assert await _heard(g, beta, f"/ws/jobs/{acme.ids['job_id']}{place}") == ([{"NOT_FOUND"}], 4404)
    codes = await _heard(g, beta, "/ws/jobs?organization_id=acme")
    assert codes == ([{"NOT_FOUND"}], 4404)


async def _heard(g: Running, who: Tenant, path: str) -> tuple[list[set[str]], int | None]:
    url, headers = g.url.replace("http", "ws") + path, {"Authorization": f"Bearer {who.key}"}
    codes = []
    try:
        async with asyncio.timeout(10), websockets.connect(url, additional_headers=headers, proxy=None) as socket:
            while True:
                told = json.loads(await socket.recv())
                assert CANARY not in json.dumps(told)
                codes.append({told["error"]["code"]})
    except ConnectionClosed as closed:
        return codes, None if closed.rcvd is None else closed.rcvd.code


async def test_nobody_hears_of_the_jobs_of_another_while_they_run(gateway: Serve, catalog: str) -> None:
    g, acme, beta = await two(gateway, catalog)
    service = await make_service(beta.client)
    url, headers = g.url.replace("http", "ws") + "/ws/jobs", {"Authorization": f"Bearer {beta.key}"}

    async with asyncio.timeout(20), websockets.connect(url, additional_headers=headers, proxy=None) as socket:
        await ran(acme.client, f"Another {CANARY}.", acme.ids["service_id"])
        mine = await order(beta.client, "Mine.", service["id"])
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["event_type"] != "complete":
            heard.append(json.loads(await socket.recv()))

    assert {event["job_id"] for event in heard} == {mine}


async def test_a_virtual_model_of_another_is_no_model(gateway: Serve, catalog: str, provider: Player) -> None:
    _, acme, beta = await two(gateway, catalog)
    calls = provider.requests_total
    body = {"messages": [{"role": "user", "content": "x"}]}

    for name in (acme.ids["route"], acme.ids["service_id"], f"{acme.ids['route']}:plain"):
        for headers in ({}, {"X-Dry-Run": "true"}):
            model = {"model": f"service/{name}", **body}
            answer = await beta.client.post("/v1/chat/completions", json=model, headers=headers)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "model_not_found")
            assert CANARY not in json.dumps(error).replace(acme.ids["route"], "")
        assert (await beta.client.get(f"/v1/models/service/{name}")).status_code == 404
    named = await beta.client.post(
        "/v1/chat/completions", json={"model": "service/summarize", "metadata": {"organization_id": "acme"}, **body}
    )
    assert named.status_code in {400, 404}
    assert provider.requests_total == calls


async def test_the_same_words_and_keys_of_two_organizations_are_two_jobs(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g, acme, beta = await two(gateway, catalog)
    # One key's jobs are no other's either, where no organization is.
    people = [acme, beta, await tenant(g, None), await tenant(g, None)]
    provider.always(lambda step: step.held(lambda: len(jobs) == len(people)))
    jobs: set[str] = set()
    body = {"model": "service/summarize", "messages": [{"role": "user", "content": "The same words."}]}

    async def call(who: Tenant) -> str:
        answer = await who.client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 200, answer.text
        job_id: str = answer.headers["x-job-id"]
        return job_id

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(who)) for who in people]
        await provider.until(lambda: provider.in_flight == len(people), 20)
        for who in people:
            jobs |= {
                job["id"] for job in (await ask(who.client, "GET", "/jobs"))["items"] if job["status"] != "completed"
            }
        provider.note()
    orders = [
        await who.client.post(
            "/api/v1/services/summarize/execute", json={"input": "x"}, headers={"Idempotency-Key": "k"}
        )
        for who in people
    ]

    assert {one.result() for one in calls} == jobs
    assert len(jobs) == len({answer.json()["job_id"] for answer in orders}) == len(people)
    for who, answer in zip(people, orders, strict=True):
        await ended(who.client, answer.json()["job_id"])
        for other in people:
            if other is not who:
                await ask(other.client, "GET", f"/jobs/{answer.json()['job_id']}", 404)


async def test_nothing_of_ones_own_can_point_at_anothers(gateway: Serve, catalog: str) -> None:
    _, acme, beta = await two(gateway, catalog)
    service = await make_service(beta.client)
    flavor = f"/flavors/{service['flavors'][0]['id']}"
    alien = {"fallback_flavor_id": acme.ids["flavor_id"], "failover_flavor_id": acme.ids["flavor_id"]}
    alien |= {"system_prompt": acme.ids["prompts"], "user_prompt": acme.ids["prompts"]}

    for field, value in alien.items():
        answers = [
            await beta.client.request("PATCH", f"/api/v1{flavor}", json={field: told})
            for told in (value, of_nothing({"": value})[""])
        ]
        assert answers[0].status_code in {400, 404, 409, 422}, (field, answers[0].text)
        assert answers[0].status_code == answers[1].status_code
        assert CANARY not in answers[0].text
    execute = {"input": "x", "flavor_id": acme.ids["flavor_id"]}
    assert (await beta.client.post("/api/v1/services/notes/execute", json=execute)).status_code == 404
    body = {"name": "Theirs", "organization_id": "acme", "flavors": [{**LINE_BY_LINE, "name": "a", "model": "chat"}]}
    assert (await beta.client.post("/api/v1/services", json=body)).status_code == 404


async def test_what_is_everybodys_is_changed_by_administrators_alone(gateway: Serve, catalog: str) -> None:
    _, acme, _ = await two(gateway, catalog)
    listed = (await ask(acme.client, "GET", "/services"))["items"]
    service = next(one for one in listed if one["organization_id"] is None)
    flavor = service["flavors"][0]["id"]

    for method, path, body in (
        ("PATCH", f"/services/{service['id']}", {"description": "mine now"}),
        ("DELETE", f"/services/{service['id']}", None),
        ("POST", f"/services/{service['id']}/flavors", _FLAVOR),
        ("PATCH", f"/flavors/{flavor}", {"temperature": 1.0}),
        ("POST", f"/flavors/{flavor}/set-default", {}),
        ("DELETE", f"/flavors/{flavor}", None),
        ("POST", "/jobs/cleanup-expired", {}),
    ):
        answer = await acme.client.request(method, f"/api/v1{path}", json=body)
        assert answer.status_code == 403, (method, path, answer.text)


async def test_an_administrator_sees_all_or_acts_for_one(gateway: Serve, catalog: str) -> None:
    g, acme, beta = await two(gateway, catalog)
    await ran(beta.client, "Beta's.", "summarize")
    admin = As(g.client, CLIENTS["admin_key"])

    everything = (await ask(admin, "GET", "/jobs"))["items"]
    for_acme = (await ask(admin, "GET", "/jobs", headers={"X-Organization-ID": "acme"}))["items"]

    assert {job["organization_id"] for job in everything} == {"acme", "beta"}
    assert {job["organization_id"] for job in for_acme} == {"acme"}
    assert (await ask(admin, "GET", f"/jobs/{acme.ids['job_id']}"))["organization_id"] == "acme"
    beta_headers = {"X-Organization-ID": "beta"}
    await ask(admin, "GET", f"/jobs/{acme.ids['job_id']}", 404, headers=beta_headers)


async def test_keys_without_an_organization_see_their_own_jobs_alone(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, **CLIENTS)
    one, other = await tenant(g, None), await tenant(g, None)
    job = await ran(one.client, "Mine.", "summarize")

    await ask(other.client, "GET", f"/jobs/{job['id']}", 404)
    assert (await ask(other.client, "GET", "/jobs"))["total"] == 0
    assert (await other.client.get("/v1/usage")).json()["total"]["prompt_tokens"] == 0
