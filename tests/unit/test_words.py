"""The words of pages: there in each language, and none that no page says any more."""

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import pytest

from slimtrack.http.pages.languages import LANGUAGES, words_of

PACKAGES = ("slimtrack.http.pages", "slimtrack.http.dashboard", "slimtrack.http.tracking_page")
#: Words whose names begin so, with what a template or a page adds.
MADE = re.compile(r"""["']([a-z_]+\.[a-z_]*)["'] ~""")
#: Pages whose tables are made by the macros that they share.
TABLES = re.compile(r"""(?:heads|cell)\(["']([a-z_]+)["']""")
NAMED = re.compile(r"""["']([a-z_.]+)["']""")


def sources(folder: Traversable) -> Iterator[str]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from sources(each)
        elif each.name.endswith((".html", ".py")):
            yield each.read_text("utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_all_words_are_there_in_every_language_and_are_used(package: str) -> None:
    text = "".join(each for used_by in PACKAGES for each in sources(files(used_by)))
    text += "".join(sources(files("slimtrack.domain")))
    prefixes, named = set(MADE.findall(text)), set(NAMED.findall(text))
    prefixes |= {f"{page}." for page in TABLES.findall(text)}
    words = words_of(package)
    assert words
    for key, texts in words.items():
        assert set(texts) == set(LANGUAGES), key
        page, _, name = key.partition(".")
        assert (
            key in named
            or (f"{page}." in prefixes and (name in named or name.isdecimal()))
            or any(key.startswith(prefix) for prefix in prefixes if not prefix.endswith("."))
        ), key
