from llmgateway.catalog.building.accounts import account_fault, account_from, address_faults
from llmgateway.catalog.model import Account
from llmgateway.catalog.schema import ProviderEntry


def entry(**fields: object) -> ProviderEntry:
    return ProviderEntry.model_validate(fields)


def test_an_entry_becomes_an_account_with_what_the_environment_adds() -> None:
    given = entry(provider="groq", timeout_s=3, options={"a": 1, "b": None})

    account = account_from("fast", given, {"GROQ_API_KEY": "g"})

    assert (account.name, account.provider, account.api_key, account.timeout_s) == ("fast", "groq", "g", 3)
    assert dict(account.options) == {"a": 1}


def test_the_environments_key_stays_with_the_environments_address() -> None:
    given = entry(provider="groq", api_base="https://elsewhere.example/")

    account = account_from("fast", given, {"GROQ_API_KEY": "g"})

    assert (account.api_key, account.api_base) == (None, "https://elsewhere.example")


def test_what_cannot_be_an_account_says_why() -> None:
    assert account_fault(entry(provider="groq"), {}) is None
    assert account_fault(entry(provider="grok"), {}) == (
        "provider",
        "there is no such provider; the nearest that LiteLLM knows is 'groq'",
    )
    assert account_fault(entry(provider="hosted_vllm"), {}) == (
        "api_base",
        "hosted_vllm has no address of its own; set api_base",
    )


def test_an_address_without_scheme_is_none() -> None:
    accounts = {"a": Account("a", "ollama", "litellm", api_base="localhost:1"), "b": Account("b", "groq", "openai")}

    (fault,) = address_faults(accounts)

    assert fault.startswith("ollama: its address must begin with http:// or https://; correct OLLAMA_API_BASE or ")
