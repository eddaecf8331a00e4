"""An upstream that answers as it is told, in memory: for the rooms that never see a socket."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from llmgateway.catalog.model import Account, Deployment
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.routing.attempt import Attempts, TimeLimits
from llmgateway.routing.charge import Charge
from llmgateway.routing.health.book import HealthBook
from llmgateway.tokens import TokenCounter

Answer = Callable[[], Awaitable[Reply]]
DEPLOYMENT = Deployment(Account("main", "openai", "openai"), "gpt-4o")
CALL = Call("chat", "chat", b"{}")
STREAM = Call("chat", "chat", b"{}", stream=True)
CHARGE = Charge(TokenCounter())


class Scripted:
    """Plays one answer a call: an exception is raised, a reply is given."""

    def __init__(self, *plays: Exception | Reply | Answer) -> None:
        self.plays = list(plays)
        self.calls = 0

    async def send(self, deployment: Deployment, call: Call) -> Reply:
        self.calls += 1
        play = self.plays.pop(0)
        if isinstance(play, Exception):
            raise play
        if callable(play):
            return await play()
        return play

    async def close(self) -> None:
        """Nothing is open."""


class Asking:
    """Attempts at a scripted upstream, each begun and sent."""

    def __init__(self, upstream: Scripted, **limits: float) -> None:
        self.attempts = Attempts({"openai": upstream}, TimeLimits(**limits), charge=CHARGE)
        self.book = HealthBook()

    async def send(self, exchange: Exchange, deployment: Deployment, call: Call) -> Reply:
        begun = self.attempts.begin(exchange, deployment, self.book.of(deployment))
        return await self.attempts.send(exchange, begun, call)


def attempts(upstream: Scripted, **limits: float) -> Asking:
    return Asking(upstream, **limits)


def exchange(within_s: float | None = None) -> Exchange:
    made = Exchange()
    made.deadline = None if within_s is None else made.started + within_s
    return made


async def pieces(*chunks: bytes) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


ANSWER = Complete(b"{}")
