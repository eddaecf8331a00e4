"""Asks what a flavor's pipeline asks for, as much of it side by side as may be, and writes each answer down."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import anyio.to_thread
from msgspec import structs

from llmgateway.caller import Caller
from llmgateway.documents.pipeline import Joint, Wave, follow_up, resumed, whole
from llmgateway.documents.question import Answer, AnswerError, Question
from llmgateway.documents.recipe import Plan, Recipe
from llmgateway.errors import GatewayError
from llmgateway.exchange import Event
from llmgateway.jobs.running.asking import Hear, ask, call_of, exchange_of
from llmgateway.jobs.running.commits import Commits, State
from llmgateway.jobs.running.failing import INVALID_OUTPUT, Patience, event_of, retry_event
from llmgateway.jobs.running.leave import Purse, Room
from llmgateway.jobs.running.means import Means
from llmgateway.jobs.running.passes import Said, added, figures, free_step, pass_of, wasted
from llmgateway.jobs.running.progress import Pacing
from llmgateway.jobs.running.reins import PulledError, Reins
from llmgateway.jobs.running.showing import Showing
from llmgateway.storage.jobs.rows import PassRow, Step

DEMO = (
    "This is an answer of the built-in demo model, which only repeats or shortens its input: no provider of models is "
    "configured. Set a provider's key, such as OPENAI_API_KEY, or write a catalog file, and run this again."
)
UNPRICED = "max_cost_usd could not be kept to: nobody knows what the model {} costs."


class _Asked(NamedTuple):
    """A question as it is put now: of its answer, `before` is there already, and `said` of it only in what is shown.

    `slot` is the same however its answer is come by: whoever goes on frees what a worker that died held for it.
    """

    slot: str
    question: Question
    before: str
    said: str
    start: int | None


class Waves:
    """One flavor's part of a run."""

    def __init__(
        self, means: Means, state: State, commits: Commits, reins: Reins, *, caller: Caller, recipe: Recipe, plan: Plan
    ) -> None:
        self._means = means
        self._state = state
        self._commits = commits
        self._reins = reins
        self._caller = caller
        self._recipe = recipe
        self._width = recipe.settings.max_concurrent_requests or means.at_once
        self._room = Room(means, state.lease, recipe, self._check)
        self._purse = Purse(recipe, state.totals.cost_nusd or 0, self._check)
        self._showing = Showing(recipe, plan)
        self.pacing = Pacing(recipe, plan, width=self._width, before=state.progress)
        self._texts: dict[str, str] = {}
        self._failures: list[GatewayError | AnswerError | PulledError] = []
        if self._purse.is_blind:
            self._warn(UNPRICED.format(recipe.model))

    async def answers(self, wave: Wave) -> Mapping[str, str]:
        """Answer the questions of a wave. After a failure nothing more is asked, and what is in flight is awaited.

        Raises:
            GatewayError: A question has no answer.
            AnswerError: Its answer is none.
            PulledError: The run ends.
        """
        texts = self._texts = {}
        failures = self._failures
        questions = iter(wave)

        async def work() -> None:
            for question in questions:
                if failures:
                    return
                try:
                    await self._ask_all(question)
                except (GatewayError, AnswerError, PulledError) as error:
                    failures.append(error)

        self.pacing.asks(len(wave))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._width, len(wave))):
                group.create_task(work())
        try:
            if failures:
                raise _worst(failures)
        finally:
            failures.clear()  # their tracebacks hold this frame: in a circle, all of it would wait for the collector
        return texts

    def _check(self) -> None:
        """Go on only if that is still of use. Raises: PulledError."""
        if self._failures:
            raise PulledError
        self._reins.check()

    async def _ask_all(self, question: Question) -> None:
        """Have a question answered to its end."""
        answers: list[Answer] = []
        following: Question | None = question
        while following is not None:
            row = self._kept(following)
            if row is None:
                following = await self._ask_for(question, following, answers)
                continue
            answers.append(Answer(text=row.output, finish_reason=row.finish_reason, refusal=row.refusal))
            following = follow_up(question, answers)
            self.pacing.answered(question, row.duration_ms, done=following is None)
            if following is None:
                self._finish(question, answers)
            await asyncio.sleep(0)  # a job that goes on has thousands of them, perhaps

    def _kept(self, question: Question) -> PassRow | None:
        """Find the answer that is written down already: the newest, and none of a flavor that could not do it."""
        row = self._state.passes.get(question.step)
        chain = [(step.flavor, step.reason.startswith(INVALID_OUTPUT)) for step in self._state.records.failover_chain]
        if row is None or not any(gave_up for _, gave_up in chain):
            return row
        last = max(place for place, (_, gave_up) in enumerate(chain) if gave_up)
        since = {self._recipe.flavor_name, *(flavor for flavor, _ in chain[last + 1 :])}
        return row if row.flavor_name in since else None

    async def _ask_for(self, question: Question, following: Question, answers: list[Answer]) -> Question | None:
        """Have a question answered and its answer written down; gives what must be asked after it."""
        said, answer = await self._patiently(question, following, answers)
        answers.append(answer)
        try:
            after = follow_up(question, answers)
        except AnswerError:
            row = self._row(following, said, answer, rejected=True)
            self._state.rejected.append(row)
            self._means.teller.passed(self._state.row(), row)
            raise

        def step() -> Step:
            row = self._row(following, said, answer)
            progress = self.pacing.answered(question, row.duration_ms, done=after is None)
            self._state.progress = progress
            if after is None:
                self._finish(question, answers)
            told = {"event_type": "progress", "current_pass_metrics": figures(row)}
            state = self._state
            return Step(passes=(row,), totals=state.totals, progress=progress, warnings=state.warnings, events=(told,))

        await self._commits.commit(step)
        self._means.teller.passed(self._state.row(), self._state.passes[following.step])
        return after

    def _row(self, question: Question, said: Said, answer: Answer, *, rejected: bool = False) -> PassRow:
        state = self._state
        state.number += 1
        step = free_step(question.step, state.steps, number=state.number, rejected=rejected)
        flavor = self._recipe.flavor_name
        row = pass_of(question, said, answer, step=step, number=state.number, flavor=flavor)
        state.steps.add(step)
        state.totals = added(state.totals, row)
        if not rejected:
            state.passes[question.step] = row
        if said.demo:
            self._warn(DEMO)
        return row

    def _warn(self, warning: str) -> None:
        if warning not in self._state.warnings:
            self._state.warnings = (*self._state.warnings, warning)

    async def _patiently(
        self, question: Question, following: Question, answers: Sequence[Answer]
    ) -> tuple[Said, Answer]:
        """Ask until there is an answer, as long as waiting helps; what is shown of it is not asked for again."""
        patience, commits = Patience(self._means.times.patience_s), self._commits
        while True:
            asked = self._asked(question, following, answers)
            try:
                said, text = await self._once(asked)
            except GatewayError as error:
                begun = asked.start is not None and len(commits.shown_from(asked.start)) > len(asked.before)
                delay_s = patience.delay_s(error, begun=begun)
                if delay_s is None:
                    raise
                commits.tell(retry_event(patience.tries, None, delay_s, error))
                await self._reins.pause(delay_s, self._check)
                continue
            return said, structs.replace(said.answer, text=asked.said + text) if asked.said else said.answer

    def _asked(self, question: Question, following: Question, answers: Sequence[Answer]) -> _Asked:
        start = self._showing.start_of(question)
        before = whole(structs.replace(question, last=True), answers) if answers else ""
        shown = "" if start is None else self._commits.shown_from(start)
        if len(shown) > len(before):
            following = resumed(question, shown, max(1, len(answers)))
            return _Asked(question.step, following, shown, shown[len(before) :], start)
        return _Asked(question.step, following, before, "", start if question.last else None)

    async def _once(self, asked: _Asked) -> tuple[Said, str]:
        """Ask a model once, when there is room and money for it; gives what it said beyond what is there already."""
        question, texts = asked.question, list[str]()
        joint = Joint(asked.before) if asked.before else None

        def show(piece: str) -> None:
            if asked.start is None or not piece:
                return
            if not texts:
                lead = self._showing.lead_of(question)
                self._commits.show(asked.start - len(lead), lead)
            texts.append(piece)
            self._commits.say(piece)

        def hear(piece: str) -> None:
            show(joint.feed(piece) if joint else piece)

        said = await self._leave_and_ask(asked.slot, question, stream=asked.start is not None, hear=hear)
        if joint is not None:
            show(joint.end())
        return said, "".join(texts)

    async def _leave_and_ask(self, slot: str, question: Question, *, stream: bool, hear: Hear) -> Said:
        cost_nusd = 0 if self._purse.is_open else await self._cost(question)
        while not await self._purse.has_room(cost_nusd):
            pass  # another call has ended meanwhile, perhaps for less
        with self._purse.holding(cost_nusd):
            reservation = await self._room.enter(slot)
            try:
                self._check()
                return await self._call(question, stream=stream, hear=hear)
            finally:
                self._room.leave(reservation)

    async def _cost(self, question: Question) -> int:
        count = self._means.count(self._recipe)
        texts = [str(message.get("content", "")) for message in question.messages]
        tokens = await anyio.to_thread.run_sync(count, texts)
        return self._purse.estimate(sum(tokens), question.max_tokens)

    async def _call(self, question: Question, *, stream: bool, hear: Hear) -> Said:
        means, state, tries = self._means, self._state, 0

        def listen(event: Event) -> None:
            nonlocal tries
            told = event_of(event, tries + 1, means.most_tries)
            if told is not None:
                tries += 1
                self._commits.tell(told)

        call = await call_of(question, self._recipe.settings, self._recipe.model, stream=stream)
        exchange = exchange_of(state.job, self._caller, means.times.request_s, listen)
        try:
            with self._reins.calling():
                return await ask(means, exchange, call, hear)
        except GatewayError:
            state.totals = wasted(state.totals, exchange)
            raise
        finally:
            self._purse.spend(exchange)

    def _finish(self, question: Question, answers: Sequence[Answer]) -> None:
        """Put a whole answer together, and show what is final by it."""
        text = self._texts[question.step] = self._whole(question, answers)
        for place, piece in self._showing.done(question, text):
            self._commits.show(place, piece)

    def _whole(self, question: Question, answers: Sequence[Answer]) -> str:
        """Put an answer together; where it was shown while it was said, it is what was shown."""
        text = whole(question, answers)
        start = None if question.last else self._showing.start_of(question)
        if start is None:
            return text
        shown = self._commits.shown_from(start)
        both = min(len(shown), len(text))
        return text if shown[:both] == text[:both] else whole(structs.replace(question, last=True), answers)


def _worst(failures: Sequence[GatewayError | AnswerError | PulledError]) -> GatewayError | AnswerError | PulledError:
    """Choose what the run goes by: a failure, which is to be written down, before the end of the run."""
    return next((one for one in failures if not isinstance(one, PulledError)), failures[0])
