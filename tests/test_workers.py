import os
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from llmgateway.workers import around, workers_folder


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nobody."""


def test_each_server_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = workers_folder(tmp_path, 7)

    assert folder.parent == tmp_path / "workers"
    assert folder.name == f"{os.uname().nodename}-7"
    assert folder != workers_folder(tmp_path, 8)


def test_the_first_middleware_is_the_outermost() -> None:
    put: list[str] = []

    def named(name: str) -> Any:
        def wrap(app: Any) -> Any:
            put.append(name)
            return app

        return wrap

    assert around([named("outer"), named("inner")], nothing) is nothing
    assert put == ["inner", "outer"]
