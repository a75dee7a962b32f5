"""Renders pages for people, in their language."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

import falcon
import jinja2
from markupsafe import Markup

from slimtrack.http.pages.assets import url_of
from slimtrack.http.pages.languages import LANGUAGES, language_of, words_of

#: Nothing from elsewhere, nothing written into a page, and no page in a frame.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: What is shown of what is not known.
_UNKNOWN: Final = "\N{EN DASH}"
_SHARED: Final = "slimtrack.http.pages"


def render(
    req: falcon.Request, resp: falcon.Response, package: str, template: str, **values: Any
) -> None:
    """Answer with a page of a package, in the language that the reader prefers.

    Templates know, beside their values, ``t`` for the words of the package, ``language`` and
    ``asset``.
    """
    language = language_of(req.get_header("Accept-Language"))
    words = _words(package)
    resp.content_type = falcon.MEDIA_HTML
    resp.set_header("Content-Security-Policy", POLICY)
    resp.append_header("Vary", "Accept-Language")
    resp.set_header("Content-Language", LANGUAGES[language])
    resp.text = (
        _environment(package)
        .get_template(template)
        .render(
            t=partial(_say, words, language),
            has_words=lambda key: key in words,
            language=LANGUAGES[language],
            **values,
        )
    )


def say(req: falcon.Request, package: str, key: str, **values: object) -> str:
    """Return a text of a package's words, in the language that the reader prefers."""
    return _say(_words(package), language_of(req.get_header("Accept-Language")), key, **values)


def _say(words: Mapping[str, Mapping[str, str]], language: str, key: str, **values: object) -> str:
    return words[key][language].format(**values)


@cache
def _words(package: str) -> Mapping[str, Mapping[str, str]]:
    return {**words_of(_SHARED), **words_of(package)}


@cache
def _environment(package: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader(_SHARED)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["asset"] = url_of
    environment.filters |= _FILTERS
    return environment


def show_time(moment: datetime | None, shape: str = "short") -> Markup:
    """Return an element that a script shows in the reader's zone; the exact time is on hover.

    ``shape`` is ``short``, without the date if it is today's, ``clock``, always without, ``day``,
    in words, or ``ago`` for how long ago it was.
    """
    if moment is None:
        return Markup.escape(_UNKNOWN)
    exact = moment.astimezone(UTC)
    # A page may have thousands; a format of Markup's takes ten times as long.
    return Markup(  # noqa: S704 - figures, and a word of a template
        f'<time datetime="{exact.isoformat(timespec="milliseconds")}"'
        f' title="{exact:%Y-%m-%d %H:%M:%S.%f} UTC" data-shape="{shape}">'
        f"{exact:%Y-%m-%d %H:%M:%S} UTC</time>"
    )


def show_number(value: float | None) -> str:
    """Return a number with thin spaces between thousands, which every language reads alike."""
    if value is None:
        return _UNKNOWN
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.1f}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def show_duration(seconds: float | None) -> str:
    """Return a number of seconds in the two units that tell most."""
    if seconds is None:
        return _UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit, smaller, small_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{seconds:.0f} s"


def show_bytes(size: float | None) -> str:
    """Return a number of bytes in megabytes, or in what fits."""
    if size is None:
        return _UNKNOWN
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


_FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "time": show_time,
    "number": show_number,
    "duration": show_duration,
    "bytes": show_bytes,
}
