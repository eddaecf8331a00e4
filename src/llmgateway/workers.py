"""What processes that serve have in common: a folder for their figures, and how middleware is put around."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.types import ASGIApp

Middleware = Callable[[ASGIApp], ASGIApp]


def workers_folder(data_dir: Path, server_pid: int) -> Path:
    """Name the folder where the worker processes of one server leave their figures for each other."""
    # Containers may share a folder, and all of their servers have the same id.
    return data_dir / "workers" / f"{platform.node()}-{server_pid}"


def around(middleware: Sequence[Middleware], app: ASGIApp) -> ASGIApp:
    """Put middleware around an application; the first in the list is the outermost."""
    for wrapper in reversed(middleware):
        app = wrapper(app)
    return app
