import json
import re
from collections.abc import Sequence

from llmgateway.api.openapi import openapi_document
from llmgateway.catalog.model import Account
from llmgateway.documents_api.catalog import accounts, discovering, tokenizers
from llmgateway.documents_api.catalog.openapi_catalog import described
from tests.documents_api.library import COUNTER, DOCUMENT, Library

HERE = described()


async def nobody(account: Account) -> Sequence[str]:
    raise AssertionError(account)


async def test_all_that_is_served_is_described_and_nothing_else(library: Library) -> None:
    routes = [
        *discovering.routes(library.storage, lambda: library.source.current, nobody),
        *accounts.routes(library.storage, lambda: library.source.current, []),
        *tokenizers.routes(COUNTER, lambda: library.source.current),
    ]
    served = {(route.path, method.lower()) for route in routes for method in route.methods or () if method != "HEAD"}

    assert served == {(path, method) for path, methods in HERE["paths"].items() for method in methods}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    text = json.dumps(HERE)
    for target in set(re.findall(r'"#/components/(\w+/[\w-]+)"', text)):
        kind, _, name = target.partition("/")
        assert name in DOCUMENT["components"][kind], target
    for name in HERE["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_no_schema_takes_the_name_of_another() -> None:
    others = openapi_document("1")["components"]["schemas"]

    assert not others.keys() & HERE["components"]["schemas"].keys()
