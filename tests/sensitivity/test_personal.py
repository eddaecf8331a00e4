import pytest

from llmgateway.sensitivity.personal import accounts, insurance_numbers, numbers


def found(text: str) -> list[tuple[str, str]]:
    lower = text.lower()
    places = [*numbers(text, lower), *accounts(text, lower), *insurance_numbers(text, lower)]
    return [(kind, text[start:end]) for kind, start, end in places]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("card 4111 1111 1111 1111 123", "card_number", "4111 1111 1111 1111"),
        ("12 4111-1111-1111-1111", "card_number", "4111-1111-1111-1111"),
        ("3782 822463 10005.", "card_number", "3782 822463 10005"),
        ("to DE89 3704 0044 0532 0130 00 today", "iban", "DE89 3704 0044 0532 0130 00"),
        ("\\nde89370400440532013000\\n", "iban", "de89370400440532013000"),
        ("ssn 536-22-8472", "us_ssn", "536-22-8472"),
        ("86095742719", "german_tax_id", "86095742719"),
        ("2 55 08 14 168 025 38", "french_nir", "2 55 08 14 168 025 38"),
        ("JG 10 37 59 A", "uk_nino", "JG 10 37 59 A"),
        ("my NINO is CE204518B", "uk_nino", "CE204518B"),
    ],
)
def test_numbers_with_a_checksum_are_found_whole(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        *("4111 1111-1111 1111", "x4111111111111111", "4111111111111111x", "0.4111111111111111", "4111111111111112"),
        *("CE204518B", "536-22-84721", "1536-22-8472", "DE89 3704 0044 0532 0130 01", "ADE89370400440532013000", ""),
    ],
)
def test_look_alikes_are_not(text: str) -> None:
    assert found(text) == []
