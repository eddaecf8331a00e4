"""What is taken out as a key, and what must stay."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.wire.secrets import HIDDEN, hide_keys, names_a_key, spellings

SHAPED = [
    "sk-proj-abcDEF0123456789_-xyz",
    "sk-svcacct-abcdefgh1234",
    "sk-abcdefghijklmnopqrstuvwxyz",
    "sk-ant-api03-abcdefgh_-12",
    "sk-or-v1-0123456789abcdef",
    "gsk_abcdefgh12345678",
    "xai-abcdefgh12345678",
    "csk-abcdefgh12345678",
    "AIzaSyA1234567890abcdefghijklmn",
    "ya29.a0AfH6SNabcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ABSKQmVkcm9ja0FQSUtleS1hYmNk",
    "bedrock-api-key-YmVkcm9jaw==",
    "A1b2" * 13 + "JQQJ99" + "B" * 26,
    "hf_abcdefghijklmnopqrstuvwxyz",
    "r8_abcdefghijklmnopqrstuvwxyz",
    "fw_abcdefghijklmnopqrstuvwxyz",
    "tgp_v1_abcdefghijklmnop-rstuvwxyz",
    "pplx-abcdefghijklmnopqrstuvwxyz",
    "jina_abcdefghijklmnopqrstuvwxyz",
    "nvapi-abcdefgh-12345678",
    "dapi0123456789abcdef0123456789abcdef",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0123456789abcd",
    "glpat-abcdefgh12345678",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.abcdef",
    "lgw_4f1c0a9b8e7d6c5b",
    "Bearer client-key-of-mine",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\ndef\n-----END RSA PRIVATE KEY-----",
]
# Each with what stays before it.
PLACED = [
    ("aws_secret_access_key=", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("AWS_SECRET_ACCESS_KEY: ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("api-key: ", "0123456789abcdef0123456789abcdef"),
    ("x-api-key: ", "plain-mistral-token"),
    ("X-Goog-Api-Key: ", "plain-token"),
    ("Ocp-Apim-Subscription-Key: ", "0123456789abcdef0123456789abcdef"),
    ("Authorization: ", "Basic dXNlcjpwYXNz"),
    ("authorization: ", "Unheard-Of zzzz-yyyy"),
    ("authorization=", "plaintoken"),
    ("'api_key': '", "abcdABCDefgh"),
    ('"api_key": "', "abcdABCDefgh"),
    ("b'api-key': b'", "abcdABCDefgh"),
    ('client_secret: "', "abc~def.123"),
    ("MISTRAL_API_KEY=", "abcd"),
    ("access_token=", "abcdef"),
    ("password=", "hunter2"),
    ("https://x.example/v1?key=", "abcdefgh"),
    ("https://x.example/v1?sv=1&sig=", "abc%2Fdef"),
    ("redis://:", "hunter2-of-mine"),
]
STAYS = [
    "req_19f3c2b41a7d5e0c93b28f64a1",
    "key_19f3c2b41a7d5e0c93b28f64a1 org_19f3c2b41a7d5e0c93b28f64a1",
    "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "123e4567-e89b-12d3-a456-426614174000",
    "1.2.3+g0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sk-learn is a word; so is task-force-commander, and disk-usage-report",
    "jina-embeddings-v3 pplx-7b-online-chat asia-northeast1 hf_transfer AKIA",
    "max_tokens=4096 prompt_tokens: 12345678 token_count=12345678",
    "api_key: the variable ${OPENAI_API_KEY} is not set",
    "api_key: ${KEY2}, api_key=None, token: null",
    "providers.main.api_key: Field required",
    "invalid_api_key",
    "the token is wrong, and the secret too",
    "http://127.0.0.1:8000/docs postgresql://db.example:5432/x someone@example.org",
    "chatcmpl-19f3c2b41a7d5e0c93b28f64",
    "anthropic.claude-3-5-sonnet-20240629-v1:0",
    "monkey=12345 turkey: 12345678",
    "Invalid HTTP request received.",
]


@pytest.mark.parametrize("key", SHAPED)
@pytest.mark.parametrize(("before", "after"), [("before ", " after"), ('{"text": "', '"}'), ("\n", "\n"), ("(", ")")])
def test_a_key_is_known_by_its_shape(key: str, before: str, after: str) -> None:
    assert hide_keys(before + key + after) == before + HIDDEN + after


@pytest.mark.parametrize(("before", "key"), PLACED)
def test_a_key_is_known_by_its_place(before: str, key: str) -> None:
    end = before[-1] if before[-1] in "\"'" else "@cache:6379/0" if "://:" in before else ""

    assert hide_keys(f"sent {before}{key}{end}, and more") == f"sent {before}{HIDDEN}{end}, and more"


def test_of_an_address_only_the_password_is_hidden() -> None:
    text = "postgresql://user:pa55-w%2Fd@db.example/x and https://0123456789abcdef0123456789abcdef@o1.example/2"

    assert hide_keys(text) == f"postgresql://user:{HIDDEN}@db.example/x and https://{HIDDEN}@o1.example/2"


def test_a_signed_request_of_amazons_keeps_no_proof() -> None:
    text = (
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261121/us-east-1/s3/aws4_request, "
        "SignedHeaders=host, Signature=fe5f80f77d5fa3beca038a248ff027d0"
    )

    assert hide_keys(text) == f"Authorization: {HIDDEN}, SignedHeaders=host, Signature={HIDDEN}"


@pytest.mark.parametrize("text", STAYS)
def test_what_only_looks_like_a_key_stays(text: str) -> None:
    assert hide_keys(text) == text


@pytest.mark.parametrize("text", ["0123456789abcdef0123456789abcdef", "org-AbCdEfGh12345678", "sk-abcd", "co-abcd"])
def test_in_doubt_it_goes(text: str) -> None:
    assert hide_keys(text) == text
    assert hide_keys(text, in_doubt=True) == HIDDEN


@given(st.text(max_size=40), st.sampled_from(SHAPED), st.text(max_size=40))
def test_no_key_survives_whatever_is_around_it(before: str, key: str, after: str) -> None:
    assert key not in hide_keys(f"{before} {key} {after}")


@given(st.text(max_size=200))
def test_hiding_twice_hides_no_more(text: str) -> None:
    once = hide_keys(text)

    assert hide_keys(once) == once


@pytest.mark.alone
@pytest.mark.parametrize(
    "piece",
    ["eyJ-", "://", "://a:", "authorization: ", "-----BEGIN A-----", "token ", "Token a ", "key: ", "A1", "sk-"],
)
def test_no_text_takes_long(piece: str) -> None:
    text = (piece * 16_000)[:16_000] + " jqqj @ Basic "
    before = time.perf_counter()

    hide_keys(text)

    assert time.perf_counter() - before < 0.25


@pytest.mark.parametrize(
    ("name", "named"),
    [
        *[(name, True) for name in ("api_key", "openai_api_key", "x-api-key", "Authorization", "client_secret")],
        *[(name, True) for name in ("token", "access_token", "password", "credentials", "cookie", "metrics_key")],
        *[(name, False) for name in ("key_id", "keys", "prompt_tokens", "monkey", "model", "secrets_file", "path")],
    ],
)
def test_a_field_says_by_its_name_that_it_holds_a_key(name: str, named: bool) -> None:
    assert names_a_key(name) is named


def test_a_secret_is_looked_for_in_every_spelling_the_longest_first() -> None:
    plain = 'a/b+"c"\n='

    spelled = spellings([plain, "eu", ""], min_chars=4)

    assert spelled == ["a%2Fb%2B%22c%22%0A%3D", json.dumps(plain)[1:-1], plain]
