"""An upstream that writes what each part of a document is to become, and says how often it was asked for which part."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.services.asking import Asks, ask
from tests.upstreams.openai_wire import OpenAIWire, chat
from tests.upstreams.step import Request, Step

# One line is one turn, and one turn one batch.
LINE_BY_LINE: dict[str, Any] = {"max_new_turns": 1, "summary_turns": 0}


@dataclass
class Scribe:
    """Speaks OpenAI's wire; an answer is what `writes` makes of the user's message.

    Args:
        fails: Which models do not answer.
        asked: The user's messages, in the order in which they came.
    """

    writes: Callable[[str], str] = str.upper
    fails: set[str] = field(default_factory=set)
    key: str = "sk-upstream"
    base_path: str = "/v1"
    asked: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Step:
        body = request.json
        content = next(message["content"] for message in reversed(body["messages"]) if message["role"] == "user")
        self.asked.append(content)
        if body["model"] in self.fails:
            return self.error(500, "Out of order.")
        written = {"role": "user", "content": self.writes(content)}
        return chat({**body, "messages": [written], "max_tokens": None})

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        return OpenAIWire().error(status, message, code=code, retry_after=retry_after)

    def too_long(self) -> Step:
        return OpenAIWire().too_long()


async def make_service(client: Asks, name: str = "Notes", **flavor: Any) -> dict[str, Any]:
    """Make a service with one flavor, which goes through a document line by line and gives the document alone."""
    settings = {"name": "plain", "model": "chat", "user_prompt": "{{document}}", "output_type": "text", **LINE_BY_LINE}
    made: dict[str, Any] = await ask(
        client, "POST", "/services", 201, json={"name": name, "flavors": [{**settings, **flavor}]}
    )
    return made


async def add_flavor(client: Asks, service: dict[str, Any], name: str, **flavor: Any) -> dict[str, Any]:
    """Give a service another flavor."""
    settings = {"model": "chat", "user_prompt": "{{document}}", "output_type": "text", **LINE_BY_LINE, **flavor}
    path = f"/services/{service['id']}/flavors"
    made: dict[str, Any] = await ask(client, "POST", path, 201, json={"name": name, **settings})
    return made
