"""What the forms of pages send."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

import falcon

from slimtrack.http import problems
from slimtrack.http.body import read_body

_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
#: Fields of a form, at most: as many as a page of dead letters has, and some.
_MOST_FIELDS: Final = 1_200


class Form:
    """The fields of a form, each with the values that it has."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields

    def get(self, name: str) -> str:
        """Return the value of a field without the space around it; empty where there is none."""
        values = self._fields.get(name)
        return values[0].strip() if values else ""

    def get_all(self, name: str) -> Sequence[str]:
        """Return all values of a field."""
        return self._fields.get(name, ())


def read_form(req: falcon.Request) -> Form:
    """Return what a form has sent.

    Raises:
        Problem: it is no form, is too large or did not arrive.
    """
    body = read_body(req, media_types=(_MEDIA_TYPE,))
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:  # not in UTF-8 either, or too many fields
        raise problems.malformed_body("The form cannot be read.") from error
    return Form(fields)
