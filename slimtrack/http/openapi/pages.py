"""The page for people who integrate: the OpenAPI document as HTML, without a script."""

from functools import cache
from importlib.resources import files
from typing import Any, Final

import falcon
import jinja2
import msgspec
from markupsafe import Markup

from slimtrack.http.auth import PUBLIC
from slimtrack.http.openapi.document import document
from slimtrack.http.openapi.operations import WHEN
from slimtrack.http.openapi.shapes import SCHEMAS, Json
from slimtrack.http.problems import KINDS

_LIMITS: Final = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "minimum": "from {}",
    "maximum": "to {}",
    "default": "{} unless given",
}


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
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"type": _type, "example": _example, "kinds": _kinds}
    template = environment.from_string(
        files("slimtrack.http.openapi").joinpath("page.html").read_text("utf-8")
    )
    return template.render(
        api=api,
        operations=[
            (path, method.upper(), operation)
            for path, methods in api["paths"].items()
            for method, operation in methods.items()
        ],
        errors=[(kind, KINDS[kind].value, when) for kind, when in WHEN.items()],
    )


def _type(schema: Json) -> Markup:
    """Say what a value is and how far it goes, with links to the shapes that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMAS)
        return Markup('<a href="#{0}">{0}</a>').format(name)
    if "const" in schema:
        return Markup("<code>{}</code>").format(schema["const"])
    if "enum" in schema:
        return Markup(" | ").join(Markup("<code>{}</code>").format(each) for each in schema["enum"])
    if "anyOf" in schema:
        return Markup(" or ").join(_type(each) for each in schema["anyOf"])
    limits = [
        Markup(", ") + text.format(schema[name]) for name, text in _LIMITS.items() if name in schema
    ]
    what = Markup("array of ") + _type(schema["items"]) if "items" in schema else Markup("")
    what = what or Markup.escape(schema.get("format") or schema.get("type", "anything"))
    return Markup("").join([what, *limits])


def _example(content: Json) -> str:
    example: Any = content["example"]
    if isinstance(example, str):
        return example
    return msgspec.json.format(msgspec.json.encode(example)).decode()


def _kinds(operation: Json) -> list[tuple[str, str]]:
    """Return the status and kind of every problem that an operation may be answered with."""
    return [
        (status, kind)
        for status, answer in sorted(operation["responses"].items())
        for content in answer.get("content", {}).values()
        for kind in content.get("examples", ())
    ]
