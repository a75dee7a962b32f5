"""The named statements of ``queries/*.sql``."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)
#: The blocks that are no statements, but parts of some, and their files.
PARTS: Final = {
    "order_columns": "orders.sql",
    "placing": "orders.sql",
    "recording": "timeline.sql",
}
_COMMENT: Final = re.compile(r"^\s*--.*\n", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Split a file at its ``-- name --`` lines into statements without their comments.

    Raises:
        ValueError: a name stands twice.
    """
    _, *parts = _NAME.split(text)
    statements: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"The statement {name} stands twice.")
        statements[name] = _COMMENT.sub("", body).strip().removesuffix(";")
    return statements


@cache
def load(file_name: str) -> Mapping[str, str]:
    """Return the statements of ``queries/<file_name>`` by name.

    ``{order_columns}`` stands for the block of this name in ``orders.sql``, in every file, and so
    do all ``PARTS``.
    """
    parts = {part: _read(origin)[part] for part, origin in PARTS.items()}
    return {
        name: _fill(statement, parts)
        for name, statement in _read(file_name).items()
        if name not in parts
    }


def _fill(statement: str, parts: Mapping[str, str]) -> str:
    for name, part in parts.items():
        statement = statement.replace(f"{{{name}}}", part)
    return statement


def _read(file_name: str) -> dict[str, str]:
    return parse((files("slimtrack.sql") / "queries" / file_name).read_text("utf-8"))
