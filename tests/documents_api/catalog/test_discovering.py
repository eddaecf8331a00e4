from collections.abc import Sequence

import httpx2
import pytest

from llmgateway.catalog.model import Account
from llmgateway.documents_api.catalog import discovering
from llmgateway.errors import UpstreamError
from tests.documents_api.library import ACME, Library


@pytest.fixture
async def listing(library: Library) -> Library:
    """Serve it, with a provider that lists two models."""

    async def discover(account: Account) -> Sequence[str]:
        assert account.name == "main"
        if library.failure is not None:
            raise library.failure
        return ["gpt-4o", "of-our-own"]

    library.more = discovering.routes(library.storage, lambda: library.source.current, discover)
    library.renew()
    return library


async def post(library: Library, path: str, status: int = 200) -> dict[str, object]:
    answer: httpx2.Response = await library.send("POST", path)
    assert answer.status_code == status, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_a_provider_tells_its_models(listing: Library) -> None:
    found = await post(listing, "/providers/main/discover-models")

    assert found == {
        "provider_id": "main",
        "total": 2,
        "items": [
            {
                "model_identifier": "gpt-4o",
                "is_registered": True,
                "context_length": 128_000,
                "max_generation_length": 16_384,
            },
            {
                "model_identifier": "of-our-own",
                "is_registered": False,
                "context_length": None,
                "max_generation_length": None,
            },
        ],
    }


async def test_a_model_is_verified_by_its_providers_list(listing: Library) -> None:
    for identifier, is_listed in (("of-our-own", True), ("elsewhere", False)):
        body = {"provider_id": "main", "model_name": "chat", "model_identifier": identifier}
        made = await listing.ask("POST", "/models", body)

        shown = await post(listing, f"/models/{made['id']}/verify")

        assert (shown["model_identifier"], shown["is_listed"]) == (identifier, is_listed)


async def test_who_cannot_be_asked_is_told(listing: Library) -> None:
    assert (await post(listing, "/providers/demo/discover-models", 409))["error_code"] == "NOT_DISCOVERABLE"
    await post(listing, "/providers/none/discover-models", 404)
    await post(listing, "/models/none/verify", 404)
    for failure, status in ((UpstreamError("It fell over."), 502), (TimeoutError(), 504)):
        listing.failure = failure
        await post(listing, "/providers/main/discover-models", status)
    listing.become(ACME)
    await post(listing, "/providers/main/discover-models", 403)
    await post(listing, "/models/none/verify", 403)
