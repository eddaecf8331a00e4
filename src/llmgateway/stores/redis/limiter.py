"""Rates, slots, cooldowns and budgets that all processes share: one script decides about a call, one settles it.

The scripts do what `stores/memory/counters.py` does, with the clock of Redis; what they return is put into words here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from llmgateway.stores.base import (
    Ask,
    Claim,
    Cooldown,
    Decision,
    Held,
    Purse,
    Rate,
    RateState,
    Reservation,
    Rules,
    Slots,
    Spent,
    Standing,
    StoreAwayError,
)
from llmgateway.stores.gcra import NEVER_US, US, Scale, scale_of
from llmgateway.stores.redis.connection import Command, CommandError
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.scripts import Script
from llmgateway.stores.redis.values import Reading

_PREFIX = "llmgw:"
_MOST_SETS = 4000
_UNKNOWN = _AS_ASKED = -1


class _Set(Struct, gc=False):
    """Rules as the scripts read them: made once, like the rules."""

    rules: Rules  # kept, so that no other rules have its id
    keys: tuple[str, ...]
    args: tuple[str, ...]  # as they are sent
    scales: tuple[Scale, ...]


class RedisLimiter:
    """A limiter over one link.

    Args:
        spent: Told after each settlement of a purse.
        clock: Unix seconds in place of Redis's own clock, for tests.
    """

    def __init__(
        self, link: RedisLink, *, spent: Spent | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        self._link = link
        self._spent = spent
        self._clock = clock
        self._reading = Reading(link)
        self._sets: dict[int, _Set] = {}
        self._reserve, self._settle, self._look, self._seed = (
            link.script(_text("counters") + _text(name)) for name in ("reserve", "settle", "look", "seed")
        )

    async def reserve(
        self, ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        was_up = self._link.up
        command = self._command(self._reserve, ask, (ask.rules, *ask.choices))
        try:
            if read is None:
                return self._decision(ask, *await self._link.ask(command)), None
            reply, found = await self._link.ask(command, self._reading.command(read, claim))
            return self._decision(ask, reply), None if isinstance(found, CommandError) else Reading.found(found)
        except BaseException:
            # Nobody knows whether it passed: the caller left, or the answer is lost. Nobody will settle it.
            if was_up:
                self._release(ask)
            raise

    def settle(self, reservation: Reservation, *, tokens: int, cost_nusd: int) -> None:
        if reservation.settled:
            return
        reservation.settled = True
        ask = reservation.ask
        sets = (ask.rules, ask.choices[reservation.choice]) if ask.choices else (ask.rules,)
        purses = [purse for rules in sets for purse in rules.purses] if self._spent is not None else []
        self._link.send(
            self._command(self._settle, ask, sets, tokens, cost_nusd),
            then=(lambda replies: self._told(purses, replies[0])) if purses else None,
        )

    async def seed(self, purse: Purse, spent_nusd: int) -> None:
        rules = Rules(purses=(purse,))
        _checked(await self._link.ask(self._command(self._seed, _nobody(rules), (rules,), spent_nusd)))

    async def look(self, rules: Rules) -> Standing:
        replies = await self._link.ask(self._command(self._look, _nobody(rules), (rules,)))
        levels, flights, rests, used = _checked(replies)
        return Standing(
            rates=self._states(rules, levels),
            slots=flights,
            rests_s=[rest_us / US for rest_us in rests],
            spent_nusd=[None if nusd == _UNKNOWN else nusd for nusd in used],
        )

    async def reset(self, rules: Rules) -> None:
        keys = [_PREFIX + rate.key for rate in rules.rates]
        keys += [key for cooldown in rules.cooldowns for key in _cooldown_keys(cooldown)]
        if keys:
            _checked(await self._link.ask(("DEL", *keys)))

    def _command(self, script: Script, ask: Ask, sets: Sequence[Rules], *more: int) -> Command:
        now: int | str = "" if self._clock is None else int(self._clock() * US)
        keys: list[str] = []
        args: list[int | str] = [now, ask.id, ask.tokens, ask.cost_nusd, int(ask.lease_s * US), len(sets)]
        for rules in sets:
            known = self._sets.get(id(rules)) or self._set(rules)
            keys += known.keys
            args += known.args
        return script(keys, [*args, *more])

    def _set(self, rules: Rules) -> _Set:
        scales = tuple(scale_of(rate) for rate in rules.rates)
        made = _Set(rules, tuple(_keys(rules)), tuple(map(str, _args(rules, scales))), scales)
        if len(self._sets) >= _MOST_SETS:
            self._sets.clear()
        self._sets[id(rules)] = made
        return made

    def _release(self, ask: Ask) -> None:
        """Give back slots and money of a call that may hold them; its tokens stay used, for it may hold none."""
        # Sent like other settlements it might come first, and what it gives back be taken after it.
        self._link.follow(self._command(self._settle, ask, (ask.rules, *ask.choices), _AS_ASKED, 0))

    def _decision(self, ask: Ask, reply: Any) -> Decision:
        _, verdict, at, kind, index, wait_us, levels, unknown = _checked((reply,))
        states = self._states(ask.rules, levels)
        if verdict == 1:
            return Decision(True, at, states=states)
        rules = ask.choices[at - 1] if at else ask.rules
        if verdict == _UNKNOWN:
            return Decision(False, states=states, unseeded=[rules.purses[each - 1] for each in unknown])
        rule = (rules.rates, rules.slots, rules.cooldowns, rules.purses)[kind - 1][index - 1]
        return Decision(
            False,
            refused_by=rule.name,
            unit=_unit(rule),
            of_choice=at > 0,
            retry_after_s=0.0 if wait_us == NEVER_US else wait_us / US,
            states=states,
        )

    def _states(self, rules: Rules, levels: Sequence[int]) -> list[RateState]:
        known = self._sets.get(id(rules)) or self._set(rules)
        return [scale.state(rate, level) for rate, scale, level in zip(rules.rates, known.scales, levels, strict=True)]

    def _told(self, purses: Sequence[Purse], used: Any) -> None:
        if self._spent is None or isinstance(used, CommandError):
            return
        for purse, nusd in zip(purses, used, strict=True):
            if nusd != _UNKNOWN:
                self._spent(purse, nusd)


def _text(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")


def _checked(replies: Sequence[Any]) -> Any:
    """Return the first reply. Raises: StoreAwayError: Redis could not do it, so what it counts is not known."""
    if isinstance(replies[0], CommandError):
        raise StoreAwayError(f"Redis could not count: {replies[0]}")
    return replies[0]


def _nobody(rules: Rules) -> Ask:
    return Ask("", rules, 0, 0, 0.0)


def _keys(rules: Rules) -> list[str]:
    keys = [_PREFIX + rate.key for rate in rules.rates]
    keys += [_PREFIX + slots.key for slots in rules.slots]
    keys += [key for cooldown in rules.cooldowns for key in _cooldown_keys(cooldown)]
    return keys + [key for purse in rules.purses for key in (_PREFIX + purse.key, f"{_PREFIX}{purse.key}:held")]


def _cooldown_keys(cooldown: Cooldown) -> tuple[str, str]:
    return _PREFIX + cooldown.key, f"{_PREFIX}{cooldown.key}:refused"


def _args(rules: Rules, scales: Sequence[Scale]) -> list[int]:
    args = [len(rules.rates), len(rules.slots), len(rules.cooldowns), len(rules.purses)]
    for rate, scale in zip(rules.rates, scales, strict=True):
        args += [int(rate.unit == "tokens"), scale.unit, scale.drain, scale.full, scale.burst]
    args += [slots.limit for slots in rules.slots]
    for cooldown in rules.cooldowns:
        args += [round(cooldown.rest_s * US), cooldown.after, round(cooldown.within_s * US)]
    for purse in rules.purses:
        args += [purse.hard_nusd, 0 if purse.ends_at is None else round(purse.ends_at * US)]
    return args


def _unit(rule: Rate | Slots | Cooldown | Purse) -> Literal["requests", "tokens", "money"]:
    match rule:
        case Rate(unit=unit):
            return unit
        case Purse():
            return "money"
        case _:
            return "requests"
