from collections.abc import Mapping
from pathlib import Path

import pytest

from llmgateway.catalog import known
from llmgateway.catalog.load import CatalogError, load
from llmgateway.catalog.model import Limits, Prices, SemanticCaching
from llmgateway.catalog.snapshot import USUAL_LIMITS, Catalog, Webhooks

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "deploy" / "gateway.example.yaml"
CHAT = """
providers:
  main: {provider: openai, api_key: "${KEY}", api_base: "https://one.example/v1/"}
  other: {provider: azure, api_base: "https://two.example", api_version: "2025-01-01"}
models:
  - name: chat
    deployments:
      - {provider: main, model: gpt-4o}
      - {provider: other, model: my-gpt}
"""

WRONG = """\
providers:
  one:
    provider: opnai
    api_kee: x
    timeout_s: -4
  two: {provider: openai, api_base: "ftp://x"}
  three: {provider: hosted_vllm}
  demo: {provider: openai}
  four: nothing
models:
  - name: chat
    strategy: fastst
    deployments:
      - {provider: twoo, model: gpt-4o, weight: 0, probe: {intervall: 3}}
      - {provider: one}
      - just text
  - {name: "x*", deployments: [{provider: two, model: y}]}
  - {name: chat, deployments: [{provider: one, model: y}]}
  - {name: empty}
  - {name: "*", passthrough: true, deployments: [{provider: two, model: y}]}
  - {name: demo/echo, deployments: [{provider: two, model: y}]}
  - {deployments: [{provider: two, model: y, prices_per_million: {input: 1}}]}
autoo: 3
"""


def faults_of(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        load(text, environ or {})
    return list(caught.value.faults)


def of(text: str, **environ: str) -> Catalog:
    return load(text, environ)


def test_a_model_of_the_file_has_its_accounts_keys_and_what_litellm_knows() -> None:
    model = of(CHAT, KEY="sk-1").resolve("chat")

    assert model is not None
    first, second = model.deployments
    assert (first.account.api_key, first.account.api_base, first.account.wire) == (
        "sk-1",
        "https://one.example/v1",
        "openai",
    )
    assert first.context_length == 128000
    assert first.prices is not None
    assert (first.prices.input, first.prices.output, first.prices.cached) == (2.5e-06, 1e-05, 1.25e-06)
    assert "vision" in first.capabilities
    assert (second.account.wire, second.account.api_version, second.context_length) == ("azure", "2025-01-01", None)


def test_without_a_file_every_provider_whose_key_is_there_is_on_offer() -> None:
    catalog = load(None, {"GROQ_API_KEY": "g", "OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "http://localhost:1/v1/"})

    assert set(catalog.accounts) == {"groq", "openai", "demo"}
    assert catalog.accounts["openai"].api_base == "http://localhost:1/v1"
    assert catalog.resolve("groq/anything") is not None


def test_demo_models_are_there_with_and_without_a_file() -> None:
    for catalog in (load(None, {}), of(CHAT, KEY="k"), of("")):
        model = catalog.resolve("demo/echo")
        assert model is not None
        assert (model.deployments[0].account.wire, model.deployments[0].model) == ("demo", "echo")
        assert catalog.resolve("demo/summary") is not None


def test_the_file_may_say_what_litellm_does_not_know() -> None:
    catalog = of("""
      providers: {house: {provider: hosted_vllm, api_base: "http://localhost:8001/v1", timeout_s: "${WAIT:-30}",
                          security_level: high, limits: {concurrent: 4}, options: {top_k: 3, nothing: null}}}
      models:
        - name: chat
          context_length: 1000
          capabilities: [tools]
          drop_unsupported: true
          defaults: {temperature: 0.2, stop: null}
          deployments:
            - {provider: house, model: m, weight: 3, max_output_tokens: 10,
               prices_per_million: {input: 2.5, output: 10, cached: 1.25}}
            - {provider: house, model: n, context_length: 2000, capabilities: []}
    """)

    model = catalog.models["chat"]
    first, second = model.deployments
    assert (first.context_length, first.max_output_tokens, first.capabilities) == (1000, 10, frozenset({"tools"}))
    assert first.prices == Prices(2.5e-06, 1e-05, 1.25e-06)
    assert (first.weight, first.drop_unsupported, dict(first.defaults)) == (3, True, {"temperature": 0.2, "stop": None})
    assert (second.context_length, second.capabilities) == (2000, frozenset())
    assert (first.account.timeout_s, first.account.limits) == (30, Limits(concurrent=4))
    assert (first.account.security_level, dict(first.account.options)) == ("high", {"top_k": 3})


def test_every_fault_is_told_at_once_with_file_line_and_path() -> None:
    faults = faults_of(WRONG)

    assert [fault.partition(": ")[0] for fault in faults] == [
        f"gateway.yaml:{line}"
        for line in (3, 4, 5, 6, 7, 8, 9, 12, 14, 14, 14, 14, 15, 16, 17, 18, 19, 20, 21, 22, 22, 23)
    ]
    text = "\n".join(faults)
    for expected in (
        "gateway.yaml:3: providers.one.provider: there is no such provider; the nearest that LiteLLM knows is 'openai'",
        "providers.one.api_kee: there is no such key; the nearest is `api_key` (known: accept_client_keys, api_base,",
        "providers.one.timeout_s: input should be greater than 0",
        "providers.two.api_base: string should match",
        "providers.three.api_base: hosted_vllm has no address of its own; set api_base",
        "providers.demo: the account 'demo' is built in",
        "models[0].strategy: input should be 'priority', 'weighted'",
        "models[0].deployments[0].provider: `providers` has no account 'twoo'; the nearest is 'two'",
        "models[0].deployments[0].probe.interval_s: `interval_s` is missing; add it",
        "models[0].deployments[1].model: `model` is missing; add it",
        "models[1].name: a name with `*` is a pattern",
        "models[2].name: the name 'chat' stands here twice",
        "models[3]: a model needs `deployments`",
        "models[4].name: an entry with `passthrough: true` has no deployments",
        "models[5].name: 'demo/echo' is built in",
        "models[6].name: `name` is missing; add it",
        "models[6].deployments[0].prices_per_million.output: `output` is missing; add it",
        "gateway.yaml:23: autoo: there is no such key; the nearest is `auto`",
    ):
        assert expected in text


def test_a_deployment_without_any_account_is_told_to_make_one() -> None:
    (fault,) = faults_of("models: [{name: a, deployments: [{provider: main, model: gpt-4o}]}]")

    assert fault.endswith("no account 'main', nor any other: add it there")


def test_pitfall_030_an_unknown_key_is_a_fault_with_line_and_nearest_name() -> None:
    text = "limits:\n  tiers:\n    default: {requests_per_minut: 5}\n"

    assert faults_of(text)[0].startswith(
        "gateway.yaml:3: limits.tiers.default.requests_per_minut: there is no such key; "
        "the nearest is `requests_per_minute`"
    )


def test_pitfall_095_a_variable_that_is_not_set_is_a_fault_with_its_name() -> None:
    fault = "gateway.yaml:3: providers.main.api_key: the environment variable KEY is not set"

    assert faults_of(CHAT)[0].startswith(fault)
    assert faults_of(CHAT, {"KEY": ""})[0].startswith(fault)
    assert of(CHAT.replace("${KEY}", "${KEY:-}")).accounts["main"].api_key is None


def test_what_is_not_a_mapping_is_a_fault() -> None:
    assert "the file must be a mapping" in faults_of("- a\n- b\n")[0]
    assert "models: input should be a valid" in faults_of("models: 3\n")[0]
    assert "not YAML" in faults_of("models: [\n")[0]


def test_a_key_in_the_file_itself_is_warned_of_and_never_shown() -> None:
    catalog = of("providers: {a: {provider: openai, api_key: sk-canary}, b: {provider: groq}}")

    assert "gateway.yaml:1: providers.a.api_key: a key stands in the file itself" in catalog.warnings[0]
    assert "providers.b.api_key: this account has no key; calls to groq will be refused" in catalog.warnings[1]
    assert "sk-canary" not in str(catalog.warnings) + repr(catalog) + catalog.version


def test_an_account_without_its_own_key_takes_the_environments_but_never_to_a_foreign_address() -> None:
    text = 'providers: {a: {provider: openai}, b: {provider: openai, api_base: "http://elsewhere.example"}}'

    catalog = of(text, OPENAI_API_KEY="sk-env")

    assert catalog.accounts["a"].api_key == "sk-env"
    assert catalog.accounts["b"].api_key is None


def test_accounts_of_the_environment_join_the_file_only_with_passthrough_for_all() -> None:
    passthrough = CHAT + '  - {name: "*", passthrough: true}\n'

    assert set(of(CHAT, KEY="k", GROQ_API_KEY="g").accounts) == {"main", "other", "demo"}
    assert set(of(passthrough, KEY="k", GROQ_API_KEY="g", OPENAI_API_KEY="o").accounts) == {
        "main",
        "other",
        "groq",
        "demo",
    }


def test_an_address_without_scheme_in_the_environment_is_a_fault() -> None:
    with pytest.raises(
        CatalogError, match="must begin with http:// or https://; correct OLLAMA_API_BASE or OLLAMA_ENDPOINT"
    ):
        load(None, {"OLLAMA_ENDPOINT": "localhost:11434"})
    assert (
        "must begin with http"
        in faults_of('models: [{name: "*", passthrough: true}]', {"GROQ_API_KEY": "g", "GROQ_API_BASE": "x"})[0]
    )


def test_sections_whose_part_is_not_built_are_named_with_their_line() -> None:
    catalog = of("""\
providers:
  a: {provider: openai, api_key: "${K:-}", security_level: high, limits: {requests_per_minute: 5, concurrent: 2}}
models:
  - name: chat
    strategy: fastest
    rescue: true
    hedge: {percentile: 95, max_share: 0.03}
    semantic_cache: {embedding_model: embed, threshold: 0.95}
    fallbacks: {any: [plain], context: [], content_filter: [], rate_limit: []}
    cache: {ttl_s: 600}
    deployments:
      - {provider: a, model: gpt-4o, weight: 3, tokenizer: o200k_base, probe: {interval_s: 30}}
      - {provider: a, model: gpt-4o-mini}
  - {name: plain, strategy: priority, rescue: false, deployments: [{provider: a, model: gpt-4o}]}
auto: {tasks: {summarization: chat}}
equivalents: [[openai/gpt-4o, anthropic/claude-sonnet-4-5]]
limits: {tiers: {default: {requests_per_minute: 60}}, operations: {chat: 60}}
webhooks: {secret: "${S:-}", allow_private: false}
integrations: {doc_store: {base_url: "http://x"}}
""")

    assert catalog.without_effect == ("gateway.yaml:19: integrations",)


def test_limits_of_callers_join_the_usual_ones() -> None:
    limits = of("""
      limits:
        tiers: {default: {requests_per_minute: 5, burst: 2}, house: {requests_per_day: 9, cooldown_seconds: 0.5}}
        operations: {chat: 7}
        users: {concurrent: 1}
        models: {chat: {tokens_per_minute: 100}}
        everyone: {requests_per_hour: 1000}
    """).limits

    assert limits.tiers["default"] == Limits(requests_per_minute=5, burst=2), "a tier that is named is named whole"
    assert limits.tiers["house"] == Limits(requests_per_day=9, cooldown_seconds=0.5)
    assert limits.tiers["premium"] == USUAL_LIMITS.tiers["premium"]
    assert dict(limits.operations) == {"chat": 7, "embeddings": 30, "audio": 10}
    assert (limits.users, limits.everyone) == (Limits(concurrent=1), Limits(requests_per_hour=1000))
    assert dict(limits.models) == {"chat": Limits(tokens_per_minute=100)}
    assert of("").limits == load(None, {}).limits == USUAL_LIMITS


def test_limits_caches_trust_and_alerts_are_taken_from_the_file() -> None:
    catalog = of("""
      providers:
        a: {provider: openai, api_key: "${K:-k}", security_level: low, accept_client_keys: true,
            limits: {requests_per_minute: 5, requests_per_day: 50}}
        b: {provider: hosted_vllm, api_base: "http://localhost:8001/v1"}
      models:
        - name: chat
          cache: {ttl_s: 600}
          semantic_cache: {embedding_model: embed, threshold: 0.9}
          deployments: [{provider: a, model: gpt-4o, limits: {concurrent: 3, tokens_per_minute: 10}}]
        - {name: plain, deployments: [{provider: b, model: x}]}
      webhooks: {secret: "${S:-hush}", alerts_url: "https://alerts.example/x"}
    """)

    chat, plain = catalog.models["chat"], catalog.models["plain"]
    assert (chat.cache_ttl_s, chat.semantic) == (600, SemanticCaching("embed", 0.9))
    assert (plain.cache_ttl_s, plain.semantic) == (None, None)
    assert chat.deployments[0].limits == Limits(concurrent=3, tokens_per_minute=10)
    a, b = catalog.accounts["a"], catalog.accounts["b"]
    assert (a.limits, a.security_level, a.accepts_client_keys) == (
        Limits(requests_per_minute=5, requests_per_day=50),
        "low",
        True,
    )
    assert (b.limits, b.security_level, b.accepts_client_keys) == (Limits(), "high", False)
    assert catalog.webhooks == Webhooks("hush", "https://alerts.example/x")
    assert "hush" in catalog.secrets()
    assert "hush" not in repr(catalog)
    assert catalog.without_effect == ()


@pytest.mark.parametrize(
    "wrong",
    [
        "limits: {tiers: {default: {requests_per_minute: 0}}}",
        "limits: {operations: {chat: many}}",
        "limits: {everyone: {cooldown_seconds: -1}}",
        "webhooks: {alerts_url: file:///etc/passwd}",
        "providers: {a: {provider: openai, security_level: none}}",
        "providers: {a: {provider: openai, limits: {concurrent: 0}}}",
    ],
)
def test_a_limit_or_an_address_of_no_sense_is_a_fault(wrong: str) -> None:
    assert len(faults_of(wrong)) == 1


def test_the_version_changes_with_the_limits_of_callers() -> None:
    assert of(CHAT + "limits: {operations: {chat: 7}}", KEY="k").version != of(CHAT, KEY="k").version


@pytest.mark.parametrize(
    "more",
    [
        "    strategy: fastest\n",
        "    rescue: true\n",
        "    hedge: {}\n",
        "    fallbacks: {any: []}\n",
        "    probe: {interval_s: 9}\n",
        "    tokenizer: o200k_base\n",
        "auto: {tasks: {code: chat}}\n",
        "equivalents: []\n",
    ],
)
def test_the_version_changes_with_how_models_are_routed(more: str) -> None:
    assert of(CHAT + more, KEY="k").version != of(CHAT, KEY="k").version


def test_the_version_changes_exactly_with_what_is_on_offer() -> None:
    version = of(CHAT, KEY="k").version

    assert of(CHAT + "\n# a comment\n", KEY="k").version == version
    assert of(CHAT.replace("gpt-4o", "gpt-4.1"), KEY="k").version != version


def test_the_example_loads_without_any_key_and_with_all() -> None:
    text = EXAMPLE.read_text("utf-8")

    bare = load(text, {})
    full = load(text, dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "k"))

    providers = {account.provider for account in bare.accounts.values()}
    named = "openai anthropic gemini groq mistral together_ai cohere azure bedrock xai ollama demo"
    assert providers == set(named.split())
    assert len(full.warnings) == len(bare.warnings) - 3
    assert full.accounts["openai"].api_key == "k"
    assert "aws_access_key_id" not in bare.accounts["bedrock"].options


def test_prices_of_every_kind_are_read_exactly() -> None:
    kinds = "input: 2.55, output: 10, cached: 0.1, cache_write: 3.3, cache_write_1h: 6, reasoning: 12, audio_input: 40"
    more = "audio_output: 80, image_input: 5, image_output: 30"
    text = f"""
providers: {{one: {{provider: openai, api_key: sk-1}}}}
models: [{{name: m, prices_per_million: {{{kinds}, {more}}}, deployments: [{{provider: one, model: x}}]}}]
"""
    model = load(text, {}).resolve("m")

    assert model is not None
    assert model.deployments[0].prices == Prices(
        2.55e-06, 1e-05, 1e-07, 3.3e-06, 6e-06, 1.2e-05, 4e-05, 8e-05, 5e-06, 3e-05
    )


def test_the_built_in_models_cost_nothing_rather_than_something_unknown() -> None:
    model = load(None, {}).resolve("demo/echo")

    assert model is not None
    assert model.deployments[0].prices == Prices(0.0, 0.0)


def test_pitfall_037_a_damaged_table_is_a_warning_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "loaded", lambda: ({}, "the table is damaged"))
    catalog = load(None, {"OPENAI_API_KEY": "sk-1"})
    model = catalog.resolve("gpt-4o")

    assert catalog.warnings == ("the table is damaged",)
    assert model is not None
    assert model.deployments[0].prices is None
