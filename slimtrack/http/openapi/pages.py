"""The page for people who integrate: the OpenAPI document as HTML, without a script."""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any, Final

import falcon
import msgspec

from slimtrack.http.auth import PUBLIC
from slimtrack.http.openapi.document import document

_STYLE: Final = """\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;color:#1a1a1a;
background:#fff}h2{margin-top:3rem;border-top:1px solid #ccc;padding-top:1rem}
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4}pre{padding:.75rem;overflow:auto}
.method{font-weight:700;background:#0b5;color:#fff;padding:.1rem .5rem;border-radius:.25rem}
.POST{background:#06c}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0}
th,td{border-bottom:1px solid #ddd}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}code,pre{background:#262626}
a{color:#8cf}th,td,h2{border-color:#444}}"""


class Documentation:
    """`/docs`."""

    scopes = PUBLIC
    media_types = (falcon.MEDIA_HTML,)

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Return the page."""
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        )
        resp.text = _page()


@cache
def _page() -> str:
    api = document()
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(api['info']['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(api['info']['title'])} API</h1>",
            f"<p>{escape(api['info']['description'])} Send an API key with each request: ",
            "<code>Authorization: Bearer stk_…</code>. Programs read ",
            '<a href="/openapi.json">openapi.json</a>.</p>',
            *_contents(api),
            *_operations(api),
            *_schemas(api),
            "</html>",
        ]
    )


def _contents(api: dict[str, Any]) -> Iterator[str]:
    yield "<ul>"
    for path, method, operation in _every(api):
        name = escape(operation["operationId"])
        yield f'<li><a href="#{name}">{escape(operation["summary"])}</a> '
        yield f"<code>{method} {escape(path)}</code></li>"
    yield "</ul>"


def _operations(api: dict[str, Any]) -> Iterator[str]:
    for path, method, operation in _every(api):
        name = escape(operation["operationId"])
        yield f'<h2 id="{name}">{escape(operation["summary"])}</h2>'
        yield f'<p><span class="method {method}">{method}</span> <code>{escape(path)}</code></p>'
        yield f"<p>{escape(operation['description'])}</p>"
        if operation["parameters"]:
            yield "<h3>Parameters</h3>"
            yield from _table(
                (each["name"], each["in"], each.get("description", ""))
                for each in operation["parameters"]
            )
        if body := operation.get("requestBody"):
            yield "<h3>Body</h3>"
            yield from _table(
                (kind, _name_of(content["schema"]), "" if body["required"] else "may be left out")
                for kind, content in body["content"].items()
            )
        yield "<h3>Answers</h3>"
        yield from _table(
            (
                status,
                _names_of(answer.get("content", {})),
                answer["description"],
            )
            for status, answer in sorted(operation["responses"].items())
        )


def _schemas(api: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(api["components"]["schemas"].items()):
        yield f'<h2 id="{escape(name)}">{escape(name)}</h2>'
        text = msgspec.json.format(msgspec.json.encode(schema)).decode()
        yield f"<pre>{escape(text)}</pre>"


def _every(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _table(rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    yield "<table>"
    for first, second, third in rows:
        name = escape(second)
        link = f'<a href="#{name}">{name}</a>' if name[:1].isupper() else name
        yield f"<tr><td><code>{escape(first)}</code></td><td>{link}</td>"
        yield f"<td>{escape(third)}</td></tr>"
    yield "</table>"


def _names_of(contents: dict[str, Any]) -> str:
    return ", ".join(_name_of(content["schema"]) for content in contents.values())


def _name_of(schema: dict[str, Any]) -> str:
    inner = schema.get("items", schema)
    return str(inner.get("$ref", inner.get("type", ""))).rpartition("/")[2]
