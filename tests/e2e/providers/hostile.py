"""Every way known to steer LiteLLM, or a gateway built on it, by a field of the body."""

import json
from typing import Any

STOLEN = "sk-chosen-by-the-client"


def hostile_fields(url: str) -> dict[str, Any]:
    """Give fields that would make somebody call this address, or use a stolen key."""
    return {**_addresses(url), **_identities(url), **_places(url), **_nested(url), **_switches(url)}


def _addresses(url: str) -> dict[str, Any]:
    names = (
        "api_base base_url azure_endpoint aws_sts_endpoint aws_bedrock_runtime_endpoint cohere_api_base langfuse_host "
        "provider_url target_url proxy http_client client azure_ad_token_provider aws_web_identity_token"
    )
    return dict.fromkeys(names.split(), url)


def _identities(url: str) -> dict[str, Any]:
    names = "api_key azure_ad_token aws_access_key_id aws_secret_access_key aws_session_token"
    login = {"token_uri": url, "client_email": "x", "private_key": STOLEN}
    return {
        **dict.fromkeys(names.split(), STOLEN),
        "vertex_credentials": json.dumps(login),
        "aws_role_name": "arn:aws:iam::1:role/x",
        "aws_profile_name": "default",
        "organization": "org-of-the-client",
        "extra_headers": {"authorization": f"Bearer {STOLEN}", "x-smuggled": "1"},
        "headers": {"authorization": f"Bearer {STOLEN}", "x-smuggled": "1"},
        "default_headers": {"x-smuggled": "1"},
        "extra_query": {"key": STOLEN},
    }


def _places(url: str) -> dict[str, Any]:
    return {
        "api_version": "2020-01-01",
        "aws_region_name": "eu-elsewhere-1",
        "region_name": "eu-elsewhere-1",
        "vertex_project": "project-of-the-client",
        "vertex_location": "nowhere",
        "model_id": "arn:aws:bedrock:us-east-1:1:inference-profile/x",
        "use_psc_endpoint_format": True,
        "cached_content": f"{url}/cachedContents/x",
    }


def _nested(url: str) -> dict[str, Any]:
    return {
        "extra_body": {"api_base": url, "api_key": STOLEN},
        "litellm_params": {"api_base": url, "api_key": STOLEN},
        "litellm_metadata": {"api_base": url, "api_key": STOLEN},
        "optional_params": {"api_base": url},
        "model_list": [{"model_name": "chat", "litellm_params": {"model": "openai/x", "api_base": url}}],
        "user_config": {"model_list": [{"model_name": "chat", "litellm_params": {"api_base": url}}]},
        "fallbacks": [{"model": "openai/x", "api_base": url, "api_key": STOLEN}],
        "metadata": {"api_base": url, "base_url": url, "api_key": STOLEN, "headers": {"x-smuggled": "1"}},
        "web_search_options": {"api_base": url},
        "safety_settings": [{"api_base": url}],
        "context_management": {"api_base": url, "url": url},
        "thinking": {"type": "disabled", "api_base": url},
    }


def _switches(url: str) -> dict[str, Any]:
    return {
        "custom_llm_provider": "openai",
        "mock_response": "mocked by the client",
        "mock_tool_calls": [],
        "context_window_fallback_dict": {"chat": "openai/x"},
        "custom_prompt_dict": {"claude-sonnet-4-5": {"roles": {}}},
        "callbacks": ["langfuse"],
        "success_callback": [url],
        "prompt_id": "prompt-of-the-client",
        "guardrails": [url],
        "input_cost_per_token": 0,
        "num_retries": 50,
        "timeout": 0.0001,
    }
