"""One way to run a document service: all that can be set of it, without its identity."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

Mode = Literal["single_pass", "iterative", "map_reduce"]
OutputType = Literal["text", "markdown", "json"]

MOST_URGENT, LEAST_URGENT = 0, 9


class FailoverOn(Struct, frozen=True):
    """After which failures of a call, its retries over, another flavor goes on."""

    timeout: bool = True
    rate_limit: bool = True
    model_error: bool = True
    content_filter: bool = False


class Flavor(Struct, frozen=True, kw_only=True):
    """How a service is run.

    Args:
        model: A model or alias of the gateway; `auto` is the best one configured.
        custom_params: Further fields of each call; never a key, an address or the messages.
        create_new_turn_after: Tokens; a longer turn is cut at the ends of sentences.
        max_new_turns: Turns a batch takes at most.
        summary_turns: Turns of the output that the next batch is shown.
        reduce_summary: Consolidate the whole output at the end, as a tree where it does not fit at once.
        consolidate_summary: Merge consecutive turns of one speaker in the output.
        system_prompt: A text, or the id of a prompt; the other prompts likewise. `None` is the built-in one.
        tokenizer_override: One of tiktoken's encodings or the path of a tokenizer.json; `None` is the model's own.
        fallback_flavor_id: Runs instead when the input does not fit, before the start.
        failover_flavor_id: Goes on when a call fails for good, during the run.
        max_concurrent_requests: Calls at once of all jobs of this flavor, in all workers.
        priority: 0 is most urgent, 9 the background.
        default_ttl_seconds: After so long a finished job and its results are deleted; `None` is never.
        max_cost_usd: The job stops before the call that would pass it.
    """

    model: str
    temperature: float = 0.2
    top_p: float = 0.9
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    custom_params: Mapping[str, Any] = {}
    processing_mode: Mode = "iterative"
    create_new_turn_after: int = 500
    max_new_turns: int = 10
    summary_turns: int = 3
    reduce_summary: bool = False
    consolidate_summary: bool = False
    output_type: OutputType = "markdown"
    output_schema: Mapping[str, Any] | None = None
    system_prompt: str | None = None
    user_prompt: str | None = None
    reduce_prompt: str | None = None
    field_extraction_prompt: str | None = None
    categorization_prompt: str | None = None
    tokenizer_override: str | None = None
    fallback_flavor_id: str | None = None
    auto_fallback_to_iterative: bool = True
    failover_flavor_id: str | None = None
    failover_on: FailoverOn = FailoverOn()
    max_failover_depth: int = 3
    max_concurrent_requests: int | None = None
    priority: int = 5
    default_ttl_seconds: int | None = None
    max_cost_usd: float | None = None
