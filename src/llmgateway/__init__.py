"""LLM Gateway: one door for every OpenAI client, in front of every provider.

The face of the package: its version and the way to make the ASGI application.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmgateway.app import create_app

__all__ = ["__version__", "create_app"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the application only when it is asked for, so that `import llmgateway` costs nothing."""
    if name == "create_app":
        from llmgateway.app import create_app  # noqa: PLC0415  see above

        return create_app
    raise AttributeError(name)
