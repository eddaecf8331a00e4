"""A flavor ready to run, and what is planned to be done with a document: values that a job keeps as JSON."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from llmgateway.flavor import Flavor, Mode

# Counts the tokens of each text.
Count = Callable[[Sequence[str]], list[int]]


class Recipe(Struct, frozen=True, kw_only=True):
    """A flavor with all that it needs: its prompts are texts by now, and its model's window is known.

    Args:
        model: The name that is asked for, of a model that is there.
        context_length: Tokens of prompt and answer together.
        max_generation: Tokens kept free for the answer, and asked for at most.
        window_estimated: Whether nobody said how long the window is.
        upstream_model, tokenizer: Count its tokens, as `TokenCounter.count` takes them.
        input_usd, output_usd: Price of one token; `None` is unknown.
    """

    flavor_id: str
    flavor_name: str
    settings: Flavor
    model: str
    context_length: int
    max_generation: int
    window_estimated: bool = False
    upstream_model: str = ""
    tokenizer: str | None = None
    input_usd: float | None = None
    output_usd: float | None = None


class Batch(Struct, frozen=True, array_like=True):
    """A part of a document that one call takes: `text[start:end]`.

    Args:
        turns: How many turns, or pieces of turns, are in it.
        speaker: Who speaks at its beginning, where that is in the middle of a turn.
    """

    start: int
    end: int
    tokens: int
    turns: int
    speaker: str | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What a run will do: the very thing that `validate-execution` tells of.

    Args:
        batches: One after the other they are the whole document.
        prompt_tokens: Of the prompts around a batch, without what is carried over from earlier ones.
        available: Tokens left in the window for a batch.
    """

    mode: Mode
    batches: tuple[Batch, ...]
    input_tokens: int
    prompt_tokens: int
    available: int

    @property
    def turns(self) -> int:
        """How many turns, or pieces of them, there are in all."""
        return sum(batch.turns for batch in self.batches)


class Extras(Struct, frozen=True, kw_only=True):
    """What whoever ordered a job adds to the service's own prompts.

    Args:
        instructions: Appended to the system prompt.
        language: Of the answer; `None` is the document's.
    """

    instructions: str = ""
    language: str | None = None
