"""What of an error, or of any text, may be shown outside of the database."""

import re
from typing import Final

#: A URL's password or query, an API key, an Authorization.
_SECRET: Final = re.compile(
    r"(?<=://)[^\s/@]*@|(?<=\S)\?\S+|\bstk_\w+|\b(?:bearer|basic)\s+\S+", re.IGNORECASE
)
#: From the first quotation mark that is no apostrophe to the last of any kind, or to the end: what
#: is quoted may hold either.
_QUOTED: Final = re.compile(r"""(?<!\w)["'`](?:.*["'`]|.*)""")
_MAX: Final = 500


def without_secrets(text: str) -> str:
    """Return a text without what would let somebody in."""
    return _SECRET.sub("?", text)


def first_line(text: str) -> str:
    """Return the first line of what an error says, without secrets.

    The lines after it are where PostgreSQL shows the row.
    """
    return without_secrets(text.strip().partition("\n")[0])[:_MAX]


def without_quotations(text: str) -> str:
    """Return that line without quoted text, which may be a caller's; the dead letter has it."""
    return _QUOTED.sub("?", without_secrets(text.strip().partition("\n")[0]))[:_MAX]
