import json

from llmgateway.documents_api.catalog import openapi_catalog
from llmgateway.documents_api.entities import openapi_entities
from llmgateway.documents_api.shelves.meanings import MEANINGS


def test_every_meaning_is_of_a_field_that_there_is() -> None:
    text = json.dumps([openapi_entities.described(), openapi_catalog.described()])

    assert [name for name in MEANINGS if f'"{name}": {{' not in text] == []
