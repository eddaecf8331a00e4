import pytest
import yaml
from pydantic import ValidationError

from llmgateway.catalog.schema import CatalogFile, Entry

# The whole of the contract's example (docs/contract/config.md 3), which must stay valid.
CONTRACT = """
providers:
  openai:
    provider: openai
    api_key: key
    api_base: https://api.openai.com/v1
    security_level: medium
    timeout_s: 60
    limits: {requests_per_minute: 500, tokens_per_minute: 200000, concurrent: 100}
models:
  - name: chat
    strategy: fastest
    deployments:
      - {provider: openai, model: gpt-4o, weight: 3}
      - {provider: azure-eu, model: gpt-4o, weight: 1, prices_per_million: {input: 2.5, output: 10, cached: 1.25}}
    fallbacks: {any: [chat-backup], context: [chat-long], content_filter: [], rate_limit: []}
    rescue: false
    hedge: {percentile: 95, max_share: 0.03}
    semantic_cache: {embedding_model: embed, threshold: 0.95}
    drop_unsupported: false
    context_length: 1
    max_output_tokens: 1
    capabilities: [vision]
    tokenizer: o200k_base
    probe: {interval_s: 30}
    cache: {ttl_s: 600}
    defaults: {temperature: 0.2}
  - {name: "*", passthrough: true}
auto:
  tasks: {summarization: chat-long, text_generation: chat}
equivalents: [[openai/gpt-4o, anthropic/claude-sonnet-4-5, gemini/gemini-2.5-pro]]
limits: {tiers: {default: {requests_per_minute: 60}}, operations: {chat: 60, embeddings: 30, audio: 10}}
webhooks: {secret: x, allow_private: false}
integrations: {doc_store: {base_url: "https://x"}}
"""


def entries(kind: type[Entry] = Entry) -> list[type[Entry]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in entries(child))]


def test_the_contracts_example_is_valid() -> None:
    file = CatalogFile.model_validate(yaml.safe_load(CONTRACT))

    assert file.models[0].deployments[1].weight == 1
    assert file.models[1].passthrough


@pytest.mark.parametrize("kind", entries())
def test_every_entry_refuses_unknown_keys_and_change(kind: type[Entry]) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        kind.model_validate({"no such key": 1})
    assert kind.model_config["frozen"]


@pytest.mark.parametrize("base", ["https://u.example/v1?x=1", "https://u.example/#x", "file:///etc", "https:// x", ""])
def test_an_address_is_http_without_query_or_fragment(base: str) -> None:
    with pytest.raises(ValidationError):
        CatalogFile.model_validate({"providers": {"a": {"provider": "openai", "api_base": base}}})


def test_an_account_name_is_one_part_of_a_models_name() -> None:
    with pytest.raises(ValidationError):
        CatalogFile.model_validate({"providers": {"a/b": {"provider": "openai"}}})
