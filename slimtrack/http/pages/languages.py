"""The languages of pages, and which of them a reader prefers."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

#: The languages of the word files, and their names in HTML.
LANGUAGES: Final[Mapping[str, str]] = {"en": "en", "pt": "pt-BR"}
_DEFAULT: Final = "en"
#: Characters of Accept-Language that are looked at.
_MOST: Final = 200


def language_of(accepted: str | None) -> str:
    """Return the language that an Accept-Language header likes best (RFC 9110, section 12.5.4)."""
    best, weight = _DEFAULT, 0.0
    for part in (accepted or "")[:_MOST].split(","):
        tag, _, parameter = part.strip().partition(";")
        language = tag.strip().partition("-")[0].lower()
        quality = _quality(parameter)
        if language in LANGUAGES and quality > weight:
            best, weight = language, quality
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not parameter.strip():
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0


@cache
def words_of(package: str) -> Mapping[str, Mapping[str, str]]:
    """Return the texts of a package's pages, as ``page.name``, each by language."""
    words: dict[str, Mapping[str, str]] = {}
    for file in files(package).joinpath("words").iterdir():
        page = file.name.removesuffix(".toml")
        for name, texts in tomllib.loads(file.read_text("utf-8")).items():
            words[f"{page}.{name}"] = texts
    return words
