"""The OpenAPI document as one HTML page: rendered here, no outside host, nothing that a strict policy forbids."""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from typing import Any

from llmgateway.api.docs_schema import fields_html, name_of, text_html

JSON = dict[str, Any]

_FORM = """
<h2 id="try-it">Try it</h2>
<p>Asks this gateway from your browser, in auth mode <code>none</code>; otherwise use a client that sends your key.
The demo models need no provider.</p>
<form id="try">
<label for="model">Model</label>
<input id="model" name="model" value="demo/echo" list="models" autocomplete="off" spellcheck="false" required>
<datalist id="models"><option value="demo/echo"><option value="demo/summary"></datalist>
<label for="message">Message</label>
<textarea id="message" name="message" rows="4" required>Say this back to me, word by word.</textarea>
<p class="inline"><input type="checkbox" id="stream" name="stream" checked>
<label for="stream">Stream the answer</label></p>
<button>Send</button><button type="button" class="plain" disabled>Stop</button>
<output id="answer" for="model message" aria-live="polite" aria-label="Answer"></output>
<p id="status" role="status"></p>
</form>
"""


def docs_page(document: JSON) -> bytes:
    """Render a document with `tags`, `paths` and `components` as HTML in UTF-8."""
    about = document["info"]
    title = f"{escape(about['title'])} {escape(about['version'])}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: API</title>
<link rel="icon" href="data:,">
<style>{_asset("css")}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<div class="columns">
<nav aria-label="Contents"><details id="contents" open><summary>Contents</summary>
{"".join(_contents(document))}
</details></nav>
<main id="content">
<h1>{escape(about["title"])} <small>{escape(about["version"])}</small></h1>
<p>{text_html(about["summary"])}</p>
<p>{text_html(about["description"])} The same as data: <a href="openapi.json">openapi.json</a>.</p>
{_FORM}
{"".join(_operations(document))}
{"".join(_errors(document))}
{"".join(_schemas(document))}
</main>
</div>
<script>{_asset("js")}</script>
</body>
</html>
""".encode()


def content_security_policy() -> str:
    """Give the policy of the page: only its own style and script, by their hashes, and calls to its own origin."""
    style, script = (
        base64.b64encode(hashlib.sha256(_asset(kind).encode()).digest()).decode() for kind in ("css", "js")
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _asset(kind: str) -> str:
    return (files("llmgateway.api") / f"docs_page.{kind}").read_text(encoding="utf-8")


def _by_tag(document: JSON) -> Iterator[tuple[JSON, list[tuple[str, str, JSON]]]]:
    """Yield each tag with its operations as `(method, path, operation)`."""
    for tag in document["tags"]:
        yield (
            tag,
            [
                (method, path, operation)
                for path, methods in document["paths"].items()
                for method, operation in methods.items()
                if tag["name"] in operation["tags"] and "x-same-as" not in operation
            ],
        )


def _contents(document: JSON) -> Iterator[str]:
    yield '<ul><li><a href="#try-it">Try it</a></ul>'
    for tag, operations in _by_tag(document):
        links = "".join(
            f'<li><a href="#{operation["operationId"]}">{_method(method)}{escape(path)}</a>'
            for method, path, operation in operations
        )
        yield f"<h2>{escape(tag['name'])}</h2><ul>{links}</ul>"
    yield '<h2>Reference</h2><ul><li><a href="#errors">Errors</a>'
    yield '<li><a href="#schemas">Schemas</a></ul>'


def _is_twin(methods: JSON, method: str, path: str) -> bool:
    return bool(methods.get(method, {}).get("x-same-as") == path)


def _method(method: str) -> str:
    return f'<span class="method {method}">{method.upper()}</span> '


def _operations(document: JSON) -> Iterator[str]:
    for tag, operations in _by_tag(document):
        yield f"<h2>{escape(tag['name'])}</h2><p>{text_html(tag['description'])}</p>"
        for method, path, operation in operations:
            yield f'<section aria-labelledby="{operation["operationId"]}">'
            yield f'<h3 id="{operation["operationId"]}">{_method(method)}<code>{escape(path)}</code></h3>'
            yield f"<p>{text_html(operation['summary'])}. {text_html(operation.get('description', ''))}</p>"
            if twins := [twin for twin, methods in document["paths"].items() if _is_twin(methods, method, path)]:
                yield f"<p>The same at {' and '.join(f'<code>{twin}</code>' for twin in twins)}.</p>"
            yield from _parameters(operation, document)
            yield from _request(operation)
            yield from _responses(operation, document)
            yield "</section>"


def _parameters(operation: JSON, document: JSON) -> Iterator[str]:
    parameters = [_resolved(parameter, document) for parameter in operation.get("parameters", [])]
    if parameters:
        rows = [
            (
                f"<code>{escape(parameter['name'])}</code>",
                parameter["in"] + (", required" if parameter.get("required") else ""),
                text_html(parameter.get("description", "")),
            )
            for parameter in parameters
        ]
        yield "<h4>Parameters</h4>" + _table(("Name", "Where", "Meaning"), rows)


def _request(operation: JSON) -> Iterator[str]:
    if "requestBody" in operation:
        ((kind, body),) = operation["requestBody"]["content"].items()
        yield f"<h4>Body</h4><p><code>{kind}</code>: {name_of(body['schema'])}</p>"
        for name, example in body["examples"].items():
            yield _example(example.get("summary", f"Example: {name}"), example["value"])


def _responses(operation: JSON, document: JSON) -> Iterator[str]:
    rows = []
    for status, written in sorted(operation["responses"].items()):
        response = _resolved(written, document)
        content = response.get("content", {})
        shapes = "<br>".join(
            f"<code>{kind}</code> {name_of(body.get('x-event-schema', body['schema']))}"
            for kind, body in content.items()
        )
        codes = ", ".join(_error_row(code, told["value"])[0] for code, told in _error_examples(response).items())
        rows.append((status, text_html(response["description"]), codes or shapes))
    yield "<h4>Answers</h4>" + _table(("Status", "Meaning", "Shape, or codes of the error"), rows)
    for body in operation["responses"].get("200", {}).get("content", {}).values():
        if "example" in body:
            yield _example("A stream", body["example"])


def _errors(document: JSON) -> Iterator[str]:
    """Yield every error once, with the statuses it comes with."""
    rows: dict[str, tuple[str, ...]] = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, written in operation["responses"].items():
                for code, example in _error_examples(_resolved(written, document)).items():
                    row = _error_row(code, example["value"])
                    rows[row[0]] = (status, *row)
    yield '<h2 id="errors">Errors</h2><p>Branch on <code>code</code>: it is stable. Messages are for people.</p>'
    yield _table(("Status", "Code", "Type", "For example"), sorted(rows.values()))


def _error_row(code: str, answered: JSON) -> tuple[str, str, str]:
    """Give the code, the type and the message of an error as OpenAI's clients or those of /api/v1 get it."""
    if "error" in answered:
        error = answered["error"]
        return f"<code>{code}</code>", f"<code>{error['type']}</code>", text_html(error["message"])
    return f"<code>{answered['error_code']}</code>", "", text_html(answered["detail"])


def _error_examples(response: JSON) -> dict[str, JSON]:
    """Give the examples that are errors, by their code."""
    examples = response.get("content", {}).get("application/json", {}).get("examples", {})
    return {code: example for code, example in examples.items() if {"error", "error_code"} & example["value"].keys()}


def _schemas(document: JSON) -> Iterator[str]:
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield f'<section aria-labelledby="schema-{name}"><h3 id="schema-{name}">{name}</h3>'
        yield f"<p>{text_html(schema.get('description', ''))}</p>{fields_html(schema)}"
        for example in schema.get("examples", []):
            yield _example("Example", example)
        yield "</section>"


def _resolved(written: JSON, document: JSON) -> JSON:
    if "$ref" not in written:
        return written
    found: JSON = document
    for step in written["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def _example(summary: str, example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
    # Focusable, so that the keyboard can scroll what is wider than the screen.
    return (
        f"<details><summary>{text_html(summary)}</summary>"
        f'<pre tabindex="0"><code>{escape(text.rstrip())}</code></pre></details>'
    )


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Render cells that are HTML already."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
