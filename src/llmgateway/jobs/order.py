"""What somebody wants done with a document, whatever way it came in."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from llmgateway.caller import ANYONE, Caller
from llmgateway.documents.recipe import Extras


class Order(Struct, frozen=True, kw_only=True):
    r"""A document for a service.

    Args:
        service: Its id or its route.
        flavor: A flavor's id or name; `None` is the service's default.
        text: The document, read; line ends are `\n`.
        organization: Whose services and jobs: the exchange's.
        everyone: Whether services of all organizations may be named (an administrator who acts for nobody).
        priority: `None` is the flavor's; a key may ask for what its owner allows.
        idempotency_key: With the path it was sent to, as `<path> <key>`.
        body_digest: Of the whole request: tells another one under the same key.
        joins: Digest under which the same order, sent again while the job lives, gets that job.
        trace: `traceparent` of the request.
        max_cost_usd: The most that the job may cost; a flavor that allows less counts.
        tags: For the categorization: name, description, category.
    """

    service: str
    text: str
    flavor: str | None = None
    caller: Caller = ANYONE
    organization: str | None = None
    everyone: bool = False
    file_name: str | None = None
    extras: Extras = Extras()
    priority: int | None = None
    metadata: Mapping[str, Any] = {}
    webhook_url: str | None = None
    tags: tuple[Mapping[str, Any], ...] = ()
    allow_new_tags: bool = False
    idempotency_key: str | None = None
    body_digest: str | None = None
    joins: str | None = None
    request_id: str | None = None
    trace: str | None = None
    max_cost_usd: float | None = None
