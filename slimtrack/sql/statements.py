"""The named statements of ``queries/*.sql``."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)
#: The block that is no statement, but a part of many.
_COLUMNS: Final = "order_columns"
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

    ``{order_columns}`` stands for the block of this name in ``orders.sql``, in every file.
    """
    statements = _read(file_name)
    columns = _read("orders.sql")[_COLUMNS]
    return {
        name: statement.replace(f"{{{_COLUMNS}}}", columns)
        for name, statement in statements.items()
        if name != _COLUMNS
    }


def _read(file_name: str) -> dict[str, str]:
    return parse((files("slimtrack.sql") / "queries" / file_name).read_text("utf-8"))
