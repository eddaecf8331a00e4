import pytest

from llmgateway.sensitivity import checks


@pytest.mark.parametrize("digits", ["4111111111111111", "378282246310005", "5555555555554444", "6011111111111117"])
def test_cards_that_networks_publish_for_tests_are_cards(digits: str) -> None:
    assert checks.is_card(digits)
    assert not checks.is_card(digits[:-1] + str((int(digits[-1]) + 1) % 10))


@pytest.mark.parametrize("digits", ["0000000000000000", "4444", "9111111111111111", "1234567890123452"])
def test_other_numbers_are_no_cards(digits: str) -> None:
    assert not checks.is_card(digits)


@pytest.mark.parametrize(
    "iban", ["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947"]
)
def test_ibans_of_the_registry_are_ibans(iban: str) -> None:
    assert checks.is_iban(iban)
    assert not checks.is_iban(iban[:-1] + ("1" if iban[-1] != "1" else "2"))
    assert not checks.is_iban(iban[:-1])


def test_ibans_have_a_known_country() -> None:
    assert not checks.is_iban("XX89370400440532013000")
    assert len(checks.IBAN_CHARS) > 60


def test_german_tax_ids_repeat_one_digit_and_end_in_a_checksum() -> None:
    assert checks.is_german_tax_id("86095742719")  # the example of the Bundeszentralamt
    assert not checks.is_german_tax_id("86095742718")
    assert not checks.is_german_tax_id("12345678901")
    assert not checks.is_german_tax_id("06095742719")


def test_french_numbers_have_a_month_and_a_key() -> None:
    assert checks.is_french_nir("255081416802538")
    assert not checks.is_french_nir("255081416802539")
    assert not checks.is_french_nir("255131416802538")
    assert not checks.is_french_nir("955081416802538")


@pytest.mark.parametrize(("text", "right"), [("12345678Z", True), ("12345678A", False), ("X1234567L", True)])
def test_spanish_ids_end_in_their_letter(text: str, right: bool) -> None:
    assert checks.is_spanish_id(text) is right


def test_dutch_numbers_pass_the_elfproef() -> None:
    assert checks.is_dutch_bsn("111222333")
    assert not checks.is_dutch_bsn("111222334")
    assert not checks.is_dutch_bsn("000000000")


@pytest.mark.parametrize(
    "text", ["000-12-3456", "666-12-3456", "912-12-3456", "123-00-4567", "123-45-0000", "078-05-1120"]
)
def test_some_american_numbers_are_never_given_out(text: str) -> None:
    assert not checks.is_us_ssn(text)
    assert checks.is_us_ssn("536-22-8472")


def test_some_british_prefixes_are_never_given_out() -> None:
    assert checks.is_uk_nino("CE204518B")
    assert not any(map(checks.is_uk_nino, ("QQ123456C", "GB123456A", "DA123456A", "AO123456A")))


def test_entropy_is_in_bits_a_character() -> None:
    assert checks.entropy_bits("") == 0
    assert checks.entropy_bits("aaaa") == 0
    assert checks.entropy_bits("abcd") == 2


@pytest.mark.parametrize("value", ["Winter2026!x", "mX9$kLw2@pQ", "kettle 4 Lamp violet 91", "hunter2!", "83920174"])
def test_passwords(value: str) -> None:
    assert checks.is_password(value)


@pytest.mark.parametrize(
    "value",
    [
        *("changeme", "password1", "<your password>", "${DB_PASSWORD}", "$(cat /run/x1)", "{{ secret1 }}", "********"),
        *(
            "os.environ['A1']",
            "getpass.getpass()",
            "required|min:8|confirmed",
            "string",
            "/run/secrets/db_1",
            "your-2fa",
        ),
    ],
)
def test_what_stands_where_a_password_would_is_none(value: str) -> None:
    assert not checks.is_password(value)


def test_random_is_told_from_written() -> None:
    assert checks.looks_random("9f86d081884c7d659a2feaa0c55ad015")
    assert checks.looks_random("Qm7-x2K_9fLp-Zr4t-8WbN_3vHs-1cJd-Y6gA")
    assert not checks.looks_random("a-long-name-of-words-2026")
    assert not checks.looks_random("your-api-key-goes-here-1234567890")
    assert checks.looks_drawn("glpat-a1B-c2D-e3F")
    assert not checks.looks_drawn("glpat-without-digits")


def test_basic_auth_is_a_name_and_a_password() -> None:
    assert checks.is_basic_auth("ZGVwbG95OlhrMjk=")
    assert not checks.is_basic_auth("authentication")
    assert not checks.is_basic_auth("bm9jb2xvbg==")
    assert not checks.is_basic_auth("A")
