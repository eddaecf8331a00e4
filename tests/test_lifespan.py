import asyncio
import gc
import io
import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup
from starlette.types import Message, Receive, Scope, Send

from llmgateway.catalog.source import CatalogSource
from llmgateway.lifespan import Application, State, settle, settle_again
from llmgateway.telemetry.logs import LineSink, build_logger
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.upstreams.server import Player

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


async def test_readiness_goes_as_soon_as_the_end_is_known(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)
    await ready(served)
    before = await served.client.get("/health/ready")

    served.app.state.drain()
    after = [await served.client.get(path) for path in ("/health/ready", "/v1/health/ready", "/readyz")]
    alive = await served.client.get("/health/live")

    assert before.status_code == 200
    assert {answer.status_code for answer in after} == {503}
    assert alive.status_code == 200


async def test_calls_still_run_through_the_grace(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog, shutdown_grace_s=5)

    served.app.state.drain()

    assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert (await served.logged("draining"))["grace_s"] == 5


async def test_the_end_of_the_grace_ends_what_runs(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, shutdown_grace_s=0.2)
    provider.always(lambda step: step.delayed(10))
    call = asyncio.ensure_future(served.client.post("/v1/chat/completions", json=CHAT))
    await provider.until(lambda: provider.in_flight == 1)

    served.app.state.drain()
    served.app.state.drain()

    assert (await call).json()["error"]["code"] == "shutting_down"
    assert (await served.logged("grace_over"))["ended"] == 1
    assert len([line for line in served.logs() if line["event"] == "draining"]) == 1
    await provider.until(lambda: provider.in_flight == 0, within_s=1)


async def test_pitfall_088_a_changed_catalog_serves_new_calls_while_old_ones_finish(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.script(lambda step: step.delayed(1.0))
    old = asyncio.ensure_future(served.client.post("/v1/chat/completions", json=CHAT))
    await provider.until(lambda: provider.in_flight == 1)

    served.catalog_file.write_text(served.catalog_file.read_text().replace("name: chat", "name: talk"))
    await served.logged("catalog_reloaded", within_s=2)
    new = await served.client.post("/v1/chat/completions", json=CHAT | {"model": "talk"})
    gone = await served.client.post("/v1/chat/completions", json=CHAT)

    assert (new.status_code, gone.status_code, (await old).status_code) == (200, 404, 200)


async def test_pitfall_093_a_faulty_catalog_leaves_the_old_one_serving(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)
    await ready(served)

    served.catalog_file.write_text("models: [{nam: chat}]")
    line = await served.logged("catalog_reload_failed", within_s=2)
    answer = await served.client.post("/v1/chat/completions", json=CHAT)
    probed = await served.client.get("/health/ready")

    assert line["level"] == "error"
    assert "gateway.yaml:1" in line["faults"][0]
    assert (answer.status_code, probed.status_code) == (200, 200)
    assert probed.json()["checks"]["config"] != "ok"


async def test_a_hangup_signal_reloads_the_catalog(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)

    os.kill(os.getpid(), signal.SIGHUP)

    await served.logged("catalog_reloaded", within_s=2)


async def test_what_was_opened_is_closed_when_something_beside_the_requests_fails(tmp_path: Path) -> None:
    closed: list[str] = []

    def report(event: str, /, **_: object) -> None:
        raise AssertionError(event)

    def beside(group: TaskGroup) -> None:
        group.start_soon(fail)

    logger = build_logger(LineSink(io.BytesIO()), level="debug", log_format="json")
    state = State(logger, CatalogSource(tmp_path / "none.yaml", {}, report), grace_s=1)

    async def fail() -> None:
        raise OSError("the disk is gone")

    async def close() -> None:
        closed.append("closed")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(_: Message) -> None:
        await anyio.sleep_forever()

    async def serve(_: Scope, __: Receive, ___: Send) -> None:
        raise AssertionError

    application = Application(serve, state, beside, close)

    with pytest.RaisesGroup(OSError):
        await application({"type": "lifespan"}, receive, send)

    assert closed == ["closed"]


def test_what_is_loaded_later_is_kept_from_the_collector_only_where_the_process_has_settled() -> None:
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    try:
        frozen = gc.get_freeze_count()
        loaded = [[number] for number in range(1000)]
        settle_again()
        assert gc.get_freeze_count() == frozen

        settle()
        frozen = gc.get_freeze_count()
        loaded += [[number] for number in range(1000)]
        settle_again()
        assert gc.get_freeze_count() >= frozen + 1000
        assert len(loaded) == 2000
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def test_a_thread_that_cuts_a_document_lets_the_event_loop_have_its_turn_soon() -> None:
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    try:
        settle()

        assert sys.getswitchinterval() == pytest.approx(0.001)
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
