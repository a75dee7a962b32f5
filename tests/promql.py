"""What a PromQL expression names: metrics, and labels. Strict, and no more than is needed."""

import re
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<duration>\d+[smhd]|\$__rate_interval)
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[a-zA-Z_:][\w:]*)
      | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>=(){}\[\],])""",
    re.VERBOSE | re.ASCII,
)
_OPERATORS: Final = {"or", "and", "unless", "bool", "offset"}
_BEFORE_LABELS: Final = {"by", "without", "on", "ignoring"}
#: Of all functions and aggregations, those that are used.
_FUNCTIONS: Final = {
    *("absent", "histogram_quantile", "label_replace", "max", "rate", "sum", "time"),
}


class UnreadableError(Exception):
    """An expression has what this module does not know."""


@dataclass(slots=True)
class Names:
    """What an expression names: each metric with its matchers, and the labels that it groups by."""

    metrics: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def names_in(expression: str) -> Names:
    """Read an expression.

    Raises:
        UnreadableError: something in it is unknown.
    """
    names = Names()
    tokens = _tokens(expression)
    while tokens:
        kind, word = tokens.pop(0)
        following = tokens[0][1] if tokens else ""
        if kind != "name" or word in _OPERATORS:
            if word == "{":
                raise UnreadableError("a selector without a metric")
        elif word in _BEFORE_LABELS:
            names.grouped |= set(_until(")", tokens)[1::2])
        elif word in _FUNCTIONS:
            if following not in {"(", *_BEFORE_LABELS}:
                raise UnreadableError(f"{word} is a function, and is not called")
        elif following == "(":
            raise UnreadableError(f"{word} is no function that is known here")
        else:
            matchers = _until("}", tokens) if following == "{" else []
            # {, and then: label, operator, text, comma
            named = zip(matchers[1::4], matchers[3::4], strict=True)
            names.metrics.append((word, {label: text.strip('"') for label, text in named}))
    return names


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(expression):
        found = _TOKEN.match(expression, place)
        if not found or not found.lastgroup:
            raise UnreadableError(f"{expression[place:]!r} in {expression!r}")
        if found.lastgroup != "space":
            tokens.append((found.lastgroup, found[0]))
        place = found.end()
    return tokens


def _until(end: str, tokens: list[tuple[str, str]]) -> list[str]:
    """Take what is in brackets, with the opening one."""
    taken: list[str] = []
    while tokens:
        token = tokens.pop(0)[1]
        if token == end:
            return taken
        taken.append(token)
    raise UnreadableError(f"{end} is missing")
