"""What people may do with kept answers: look how many there are, and forget some."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from llmgateway.stores.base import Tags, Values

# Users name themselves as long as they like; tags do not.
_MOST_LABEL_CHARS = 128
NOBODY = "anonymous"


class Tally(Struct):
    """How often this process found an answer.

    Args:
        hits: Answered from what was kept, the semantic ones included.
        coalesced: Answered by another's call for the same.
    """

    hits: int = 0
    semantic_hits: int = 0
    misses: int = 0
    coalesced: int = 0
    stored: int = 0


def tags_of(*, user: str | None, model: str | None, organization_id: str | None, key_id: str | None) -> tuple[str, ...]:
    """Name a kept answer, or ask for those of that name: by whom it was asked, and of what."""
    tags = _tags(model, organization_id, key_id)
    return tags if user is None else (f"user:{user[:_MOST_LABEL_CHARS]}", *tags)


# Not by the user: who sends others with each call, as long as they like, would fill the memory.
@lru_cache(maxsize=1024)
def _tags(model: str | None, organization_id: str | None, key_id: str | None) -> tuple[str, ...]:
    named = (("model", model), ("org", organization_id), ("key", key_id))
    return tuple(f"{kind}:{value[:_MOST_LABEL_CHARS]}" for kind, value in named if value is not None)


def name_tag(user: str | None, model: str, key: str) -> str:
    """Give the name that patterns are compared with: `{user}_{model}_{digest}`, of the digest twelve digits."""
    digest = key.rpartition(":")[2][:12]
    return f"name:{(user or NOBODY)[:_MOST_LABEL_CHARS]}_{model[:_MOST_LABEL_CHARS]}_{digest}"


class _Asked(Struct, frozen=True, gc=False):
    """By whom answers were asked, and of what."""

    user: str | None
    model: str
    organization_id: str | None
    key_id: str | None

    def of(self, key: str) -> Sequence[str]:
        tags = tags_of(user=self.user, model=self.model, organization_id=self.organization_id, key_id=self.key_id)
        return (*tags, name_tag(self.user, self.model, key))


def answer_tags(user: str | None, model: str, organization_id: str | None, key_id: str | None) -> Tags:
    """Give the tags under which answers are kept, their names among them."""
    if user is None:
        return _of_nobody(model, organization_id, key_id)
    return _Asked(user[:_MOST_LABEL_CHARS], model, organization_id, key_id)


@lru_cache(maxsize=1024)
def _of_nobody(model: str, organization_id: str | None, key_id: str | None) -> Tags:
    return _Asked(None, model, organization_id, key_id)


class CacheAdmin:
    """The kept answers, for the faces.

    Args:
        tally: What this process counted; other processes count their own.
    """

    def __init__(self, values: Values, tally: Tally) -> None:
        self._values = values
        self._tally = tally

    async def status(self) -> dict[str, Any]:
        """Say how much is kept and how often it was of use.

        Raises:
            StoreAwayError: The store does not answer.
        """
        found, tally = await self._values.status(), self._tally
        asked = tally.hits + tally.misses + tally.coalesced
        return {
            "entries": found.entries,
            "size_bytes": found.size_bytes,
            "max_bytes": found.max_bytes,
            "max_entries": found.max_entries,
            "evictions": found.evictions,
            "oldest_entry_age_seconds": found.oldest_s,
            "hits": tally.hits,
            "semantic_hits": tally.semantic_hits,
            "misses": tally.misses,
            "coalesced": tally.coalesced,
            "stored": tally.stored,
            "hit_rate": (tally.hits + tally.coalesced) / asked if asked else 0.0,
        }

    async def clear(
        self,
        *,
        pattern: str | None = None,
        model: str | None = None,
        organization_id: str | None = None,
        key_id: str | None = None,
        user: str | None = None,
    ) -> int:
        """Forget the answers of which all this is true, all of them when nothing is said; returns how many.

        Args:
            pattern: A glob over `{user}_{model}_{digest}`.

        Raises:
            StoreAwayError: Perhaps some of them are left.
        """
        tags = tags_of(user=user, model=model, organization_id=organization_id, key_id=key_id)
        return await self._values.clear(tags, pattern)
