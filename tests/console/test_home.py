"""What `GET /` gives to whom, and what the page is made of."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typing_extensions import override

from llmgateway.api.root import welcome
from llmgateway.console.home import render, routes, wants_page
from tests.conftest import Serve

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
OLD_BROWSER = "text/html, application/xhtml+xml, image/jxr, */*"
HTMX = "text/html, */*;q=0.1"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of its style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str]]] = []
        self.texts = {"style": "", "script": ""}
        self._within = ""
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, {name: value or "" for name, value in attrs}))
        self._within = tag

    @override
    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    @override
    def handle_data(self, data: str) -> None:
        if self._within in self.texts:
            self.texts[self._within] += data

    @property
    def ids(self) -> list[str]:
        return [given["id"] for _, given in self.all if "id" in given]


@pytest.fixture
def page() -> str:
    return render("1.2.3", "none")


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=routes("1.2.3", "none", welcome("1.2.3")))) as made:
        yield made


@pytest.mark.parametrize("accept", [FIREFOX, CHROME, OLD_BROWSER, HTMX, "TEXT/HTML", "text/html; charset=utf-8"])
def test_a_browser_wants_the_page(accept: str) -> None:
    assert wants_page(accept)


@pytest.mark.parametrize(
    "accept",
    [
        *("", "*/*", "application/json", "text/*", "application/*", "application/json, text/html"),
        *("application/json, text/plain, */*", "text/html;q=0", "text/html;q=0.2, application/json"),
        *("text/html;q=nonsense", "text/html;q=0.5, application/json;q=0.5;q=0.9"),
    ],
)
def test_whoever_names_no_html_or_json_before_it_wants_json(accept: str) -> None:
    wanted = wants_page(accept)

    assert wanted is (accept == "text/html;q=0.5, application/json;q=0.5;q=0.9")


def test_the_page_and_the_json_are_never_taken_for_each_other_by_a_cache(client: TestClient) -> None:
    page = client.get("/", headers={"accept": CHROME})
    json = client.get("/", headers={"accept": "*/*"})

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert json.json()["name"] == "llmgateway"
    assert page.headers["vary"] == json.headers["vary"] == "Accept"
    assert client.head("/", headers={"accept": CHROME}).status_code == 200


async def test_the_gateway_gives_the_page_with_headers_that_let_it_do_no_more_than_it_must(gateway: Serve) -> None:
    g = await gateway(auth__mode="gateway", auth__gateway_keys="shared-key-0001")

    answer = await g.client.get("/", headers={"accept": CHROME})

    assert answer.status_code == 200
    assert 'data-auth="gateway"' in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers
    assert "shared-key-0001" not in answer.text


def test_only_the_script_and_the_style_of_the_page_run(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": CHROME})

    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    inside = Elements(answer.text).texts
    digests = {
        kind: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for kind, text in inside.items()
    }
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"]) == (digests["script"], digests["style"])
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"


def test_the_page_names_no_other_host_and_loads_nothing(page: str) -> None:
    elements = Elements(page)

    assert re.findall(r"(?:https?:)?//[a-z]", page.replace('"//', "")) == []
    assert [given for tag, given in elements.all if "src" in given] == []
    linked = {given["href"] for tag, given in elements.all if "href" in given}
    assert linked == {"data:,", "#main", "docs"}
    assert "@import" not in page
    assert "url(" not in page


def test_nothing_in_the_page_runs_by_itself(page: str) -> None:
    elements = Elements(page)

    assert [name for _, given in elements.all for name in given if name.startswith("on") or name == "style"] == []
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert sink not in page


def test_every_id_is_there_once_and_every_one_that_is_named_is_there(page: str) -> None:
    elements = Elements(page)
    named = set(re.findall(r"\$\(\"([^\"]+)\"\)", page))
    pointing = ("for", "aria-controls", "aria-labelledby", "aria-describedby")
    named |= {one for _, given in elements.all for name in pointing for one in given.get(name, "").split()}

    assert len(named) > 40
    assert sorted(elements.ids) == sorted(set(elements.ids))
    assert named - set(elements.ids) == set()


def test_every_control_says_what_it_is(page: str) -> None:
    elements = Elements(page)
    labelled = {given["for"] for tag, given in elements.all if tag == "label" and "for" in given}

    controls = [given for tag, given in elements.all if tag in {"input", "select", "textarea", "progress"}]
    unnamed = [given for given in controls if given["id"] not in labelled and "aria-label" not in given]

    # This one stands within its label.
    assert [given["id"] for given in unnamed] == ["stream"]
    assert all(given.get("type") or "class" in given or given["id"] for tag, given in elements.all if tag == "button")


def test_what_is_put_into_the_page_is_put_in_as_text() -> None:
    page = render("<b>1</b>{{script}}", '"><script>')

    assert "<b>1" not in page
    assert '"><script>' not in page
    assert page.count("<script") == 1
    assert Elements(page).texts["script"] == Elements(render("1", "none")).texts["script"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_that_wcag_asks_for(page: str, scheme: str) -> None:
    schemes = dict(zip(("light", "dark"), re.findall(r":root \{([^}]*)\}", page), strict=True))
    colour = {name: luminance(given) for name, given in re.findall(r"--(\w+): #(\w+)", schemes[scheme])}

    for text in ("fore", "dim", "accent", "bad", "good"):
        assert contrast(colour[text], colour["back"]) >= 4.5, text
        assert contrast(colour[text], colour["soft"]) >= 4.5, text
    # The edge of a control (WCAG 2.2, 1.4.11).
    assert contrast(colour["edge"], colour["back"]) >= 3


def luminance(colour: str) -> float:
    """Give the relative luminance of a colour (WCAG 2.2)."""
    whole = "".join(2 * digit for digit in colour) if len(colour) == 3 else colour
    parts = [int(whole[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
