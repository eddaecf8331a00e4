from pathlib import Path

import anyio

from llmgateway.engine import Engine
from llmgateway.exchange import Call, Complete, Exchange
from llmgateway.settings import load_settings


async def test_an_engine_answers_without_a_server(tmp_path: Path) -> None:
    environ = {"LLMGATEWAY_DATA_DIR": str(tmp_path), "LLMGATEWAY_CATALOG": str(tmp_path / "none.yaml")}
    (tmp_path / "none.yaml").write_text("models: []\n")
    engine = Engine(load_settings(environ), environ, "1.2.3")
    exchange = Exchange()

    async with anyio.create_task_group() as group:
        engine.beside(group)
        reply = await engine.gateway.send(
            exchange, Call("chat", "demo/echo", b'{"messages":[{"role":"user","content":"hi"}]}')
        )
        group.cancel_scope.cancel()
    await engine.close()

    assert isinstance(reply, Complete)
    assert b"hi" in reply.body
    assert engine.names().resolve("demo/summary") is not None
    assert engine.gateway.virtual is None
