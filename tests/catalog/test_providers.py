import pytest

from llmgateway.catalog.providers import account_of, accounts_from, first, providers, usual_security

RELAYED = """
    openai groq xai together_ai deepseek openrouter hosted_vllm fireworks_ai perplexity nvidia_nim cerebras sambanova
    deepinfra lm_studio llamafile litellm_proxy mistral
"""
OTHERWISE = "anthropic gemini cohere bedrock vertex_ai sagemaker ollama github_copilot chatgpt azure_ai"


@pytest.mark.parametrize("name", RELAYED.split())
def test_a_provider_of_openais_wire_is_relayed(name: str) -> None:
    assert providers()[name].wire == "openai"


@pytest.mark.parametrize(
    "name",
    [
        "anthropic",
        "gemini",
        "cohere",
        "bedrock",
        "vertex_ai",
        "sagemaker",
        "ollama",
        "github_copilot",
        "chatgpt",
        "azure_ai",
    ],
)
def test_a_provider_with_its_own_wire_or_a_login_is_not(name: str) -> None:
    assert providers()[name].wire == "litellm"


# The contract's names (docs/contract/config.md 1), each enough by itself.
@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("OPENAI_API_KEY", "openai"),
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("CLAUDE_API_KEY", "anthropic"),
        ("GEMINI_API_KEY", "gemini"),
        ("GROQ_API_KEY", "groq"),
        ("MISTRAL_API_KEY", "mistral"),
        ("TOGETHERAI_API_KEY", "together_ai"),
        ("TOGETHER_API_KEY", "together_ai"),
        ("COHERE_API_KEY", "cohere"),
        ("XAI_API_KEY", "xai"),
        ("GROK_API_KEY", "xai"),
        ("OPENROUTER_API_KEY", "openrouter"),
        ("DEEPSEEK_API_KEY", "deepseek"),
    ],
)
def test_a_key_in_the_environment_is_an_account(name: str, provider: str) -> None:
    account = accounts_from({name: "the-key"})[provider]

    assert account.api_key == "the-key"
    assert account.name == provider
    assert "the-key" not in repr(account)


@pytest.mark.parametrize("key", ["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"])
@pytest.mark.parametrize("base", ["AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"])
def test_azure_needs_key_and_address(key: str, base: str) -> None:
    assert "azure" not in accounts_from({key: "k"})
    assert "azure" not in accounts_from({base: "https://r.example"})

    account = accounts_from({key: "k", base: "https://r.example/"})["azure"]

    assert (account.api_key, account.api_base, account.wire) == ("k", "https://r.example", "azure")
    assert account.api_version is not None
    assert account_of("azure", "azure", {"AZURE_API_VERSION": "2030-01-01"}).api_version == "2030-01-01"


@pytest.mark.parametrize("name", ["OLLAMA_API_BASE", "OLLAMA_ENDPOINT"])
def test_ollama_needs_an_address_only(name: str) -> None:
    account = accounts_from({name: "http://box:11434/"})["ollama"]

    assert (account.api_base, account.api_key) == ("http://box:11434", None)


def test_bedrock_needs_aws_credentials_of_any_kind() -> None:
    account = accounts_from({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_REGION": "eu-1"})[
        "bedrock"
    ]

    assert dict(account.options) == {
        "aws_access_key_id": "a",
        "aws_secret_access_key": "canary",
        "aws_region_name": "eu-1",
    }
    assert "canary" not in repr(account)
    assert "bedrock" in accounts_from({"AWS_PROFILE": "work"})
    assert accounts_from({"AWS_BEARER_TOKEN_BEDROCK": "b"})["bedrock"].api_key == "b"
    assert "bedrock" not in accounts_from({"AWS_REGION": "eu-1"})


@pytest.mark.parametrize(
    ("environ", "provider"),
    [
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x/v1"}, "openai"),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_BASE": "http://x/v1"}, "openai"),
        ({"GROQ_API_KEY": "k", "GROQ_API_BASE": "http://x/v1"}, "groq"),
        ({"GROQ_API_KEY": "k", "GROQ_BASE_URL": "http://x/v1"}, "groq"),
        ({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://x/v1"}, "anthropic"),
        ({"MISTRAL_API_KEY": "k", "MISTRAL_API_BASE": "http://x/v1"}, "mistral"),
        ({"HOSTED_VLLM_API_BASE": "http://x/v1"}, "hosted_vllm"),
    ],
)
def test_the_address_may_be_another(environ: dict[str, str], provider: str) -> None:
    assert accounts_from(environ)[provider].api_base == "http://x/v1"


def test_nothing_is_an_account_without_the_environment() -> None:
    assert accounts_from({}) == {}
    assert accounts_from({"OPENAI_API_KEY": ""}) == {}
    assert first(["A", "B"], {"A": "", "B": "2"}) == "2"


def test_what_answers_neither_chat_nor_embeddings_is_no_account() -> None:
    assert "nvidia_riva" not in accounts_from({"NVIDIA_NIM_API_KEY": "k"})


def test_quirks_of_the_wire_come_from_the_table() -> None:
    mistral, openai = account_of("m", "mistral", {}), account_of("o", "openai", {})

    assert dict(mistral.renames) == {"max_completion_tokens": "max_tokens", "seed": "random_seed"}
    assert not mistral.takes_stream_options
    assert (dict(openai.renames), openai.takes_stream_options) == ({}, True)


def test_the_table_is_whole() -> None:
    for name, row in providers().items():
        assert row.api_base is None or row.api_base.startswith(("https://", "http://localhost", "http://127.0.0.1")), (
            name
        )
        assert row.api_base is None or not row.api_base.endswith("/"), name
        assert not (row.wire == "openai" and row.address_in_model), name
    assert len(providers()) > 150


@pytest.mark.parametrize(
    ("provider", "api_base", "level"),
    [
        ("openai", None, "medium"),
        ("openai", "https://api.openai.com/v1", "medium"),
        ("openai", "http://127.0.0.1:9000/v1", "high"),
        ("openai", "http://10.0.0.5/v1", "high"),
        ("openai", "http://proxy:4000/v1", "medium"),
        ("bedrock", None, "high"),
        ("ollama", None, "high"),
        ("ollama", "http://ollama:11434", "high"),
        ("hosted_vllm", "http://vllm.house.internal/v1", "high"),
        ("hosted_vllm", "https://rented.example/v1", "medium"),
        ("hosted_vllm", "http://8.8.8.8/v1", "medium"),
    ],
)
def test_what_stays_in_the_house_is_trusted_most(provider: str, api_base: str | None, level: str) -> None:
    assert usual_security(provider, api_base) == level
