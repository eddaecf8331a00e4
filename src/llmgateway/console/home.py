"""`GET /`: the page for a browser, and what is served here as JSON for everyone else."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = files("llmgateway.console") / "page"
# One script in the page, whose parts know each other.
_SCRIPTS = ("shared.js", "playground.js", "services.js", "status.js")
_PLACE = re.compile(r"\{\{(version|auth|style|script)\}\}")
Welcome = Callable[[Request], Awaitable[Response]]


def routes(version: str, auth_mode: str, welcome: Welcome) -> list[Route]:
    """Serve `/`.

    Args:
        auth_mode: Tells the page whether to ask for a key.
        welcome: Answers whoever wants no page.
    """

    @cache
    def page() -> tuple[bytes, dict[str, str]]:
        headers = {"content-security-policy": _policy(), "cache-control": "no-cache"}
        return render(version, auth_mode).encode(), headers

    async def home(request: Request) -> Response:
        if wants_page(request.headers.get("accept", "")):
            content, headers = page()
            answer = Response(content, media_type="text/html", headers=headers)
        else:
            answer = await welcome(request)
        answer.headers.add_vary_header("Accept")
        return answer

    return [Route("/", home, methods=["GET"])]


def wants_page(accept: str) -> bool:
    """Whether a client prefers a page: it names HTML, and JSON with less weight or after it, as browsers do."""
    weights: dict[str, float] = {}
    for kind in accept.lower().split(","):
        name, _, parameters = kind.partition(";")
        weights.setdefault(name.strip(), _weight(parameters))
    html, json = weights.get("text/html", 0.0), weights.get("application/json", 0.0)
    named = list(weights)
    if html == json and html > 0:
        return named.index("text/html") < named.index("application/json")
    return html > json


def render(version: str, auth_mode: str) -> str:
    """Put the page together: one document, which loads nothing else."""
    values = {"version": escape(version), "auth": escape(auth_mode), "style": _style(), "script": _script()}
    return _PLACE.sub(lambda place: values[place[1]], _read("index.html"))


def _policy() -> str:
    """Let only the page's own script run, let no text become HTML, and nobody but this gateway be asked."""
    return (
        f"default-src 'none'; script-src {_digest(_script())}; style-src {_digest(_style())}; connect-src 'self'; "
        "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script() -> str:
    return "\n".join(map(_read, _SCRIPTS))


def _style() -> str:
    return _read("style.css")


@cache
def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


def _weight(parameters: str) -> float:
    """Read a kind's `q` (RFC 9110, section 12.4.2): 1 unless it is given."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
