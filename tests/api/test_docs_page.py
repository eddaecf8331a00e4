import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from typing_extensions import override

from llmgateway.api.docs_page import content_security_policy, docs_page
from llmgateway.api.openapi import openapi_document
from llmgateway.pages import DESCRIBED

DOCUMENT = openapi_document("1.2.3", DESCRIBED)
PAGE = docs_page(DOCUMENT).decode()
VOID = {"meta", "link", "input", "br", "option"}
CLOSES_ITSELF = {"li"}


class Reader(HTMLParser):
    """Notes ids, links, labels and what is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: set[str] = set()
        self.fields: set[str] = set()
        self.attributes: set[str] = set()
        self.faults: list[str] = []
        self._open: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes |= given.keys()
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag == "label":
            self.labels.add(str(given["for"]))
        if tag in {"input", "textarea"}:
            self.fields.add(str(given["id"]))
        if tag not in VOID | CLOSES_ITSELF:
            self._open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag not in CLOSES_ITSELF and (not self._open or self._open.pop() != tag):
            self.faults.append(tag)

    @override
    def close(self) -> None:
        super().close()
        self.faults += self._open


@pytest.fixture(scope="module")
def read() -> Reader:
    reader = Reader()
    reader.feed(PAGE)
    reader.close()
    return reader


def test_the_page_is_well_formed(read: Reader) -> None:
    assert read.faults == []
    assert len(set(read.ids)) == len(read.ids)


def test_every_link_leads_to_a_place_on_the_page_or_to_the_document(read: Reader) -> None:
    assert {link.removeprefix("#") for link in read.links} <= {*read.ids, "openapi.json"}


def test_every_field_has_a_label(read: Reader) -> None:
    assert read.fields == read.labels == {"model", "message", "stream"}


def test_the_policy_allows_what_the_page_holds_and_nothing_else(read: Reader) -> None:
    policy = content_security_policy()

    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not {name for name in read.attributes if name.startswith("on")} | ({"style"} & read.attributes)


def test_every_path_schema_and_error_code_is_shown() -> None:
    for path in DOCUMENT["paths"]:
        assert f"<code>{path}</code>" in PAGE
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="schema-{name}"' in PAGE
    for code in ("invalid_value", "model_not_found", "provider_unavailable", "provider_timeout", "internal_error"):
        assert f"<code>{code}</code>" in PAGE


def test_what_the_document_says_is_text_never_markup() -> None:
    document = openapi_document("<script>alert(1)</script>")
    document["tags"][0]["description"] = "<img src=x onerror=alert(1)>"
    document["paths"]["/health"]["get"]["summary"] = "a `<b>` c"

    page = docs_page(document).decode()

    assert "<script>alert" not in page
    assert "<img" not in page
    assert "a <code>&lt;b&gt;</code> c" in page


def test_the_page_reads_on_a_phone_and_in_the_dark() -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in PAGE
    assert "prefers-color-scheme: dark" in PAGE
    assert "max-width: 60rem" in PAGE
