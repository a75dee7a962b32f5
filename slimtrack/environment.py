"""What an environment says: the text of a variable, or the file that holds a secret."""

import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Final

from slimtrack.domain.errors import SettingsError

#: How the names of our variables begin.
_PREFIX: Final = "SLIMTRACK_"

_HIDDEN: Final = "***"
#: A user with or without a password. Up to the last @: an unescaped one may be in the password.
_USER: Final = re.compile(r"://([^:/?#@]*:)?.*@", re.DOTALL)
_PARAMETER: Final = re.compile(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


class Source(StrEnum):
    """Where the text of a setting comes from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Found:
    """The text of a setting; ``file`` is the one that holds it, if one does."""

    text: str
    source: Source
    file: str | None = None


def file_variable(name: str) -> str:
    """Return the variable that names the file of a secret."""
    return f"{name}_FILE"


def variables_of(name: str, environment: Mapping[str, str], *, secret: bool) -> dict[str, str]:
    """Return what is set of a setting, so that it means the same in every directory.

    An empty variable counts as not set. A secret has two: itself, and the one for its file.
    """
    found = {name: environment[name]} if environment.get(name) else {}
    if secret and (path := environment.get(file_variable(name))):
        found[file_variable(name)] = str(Path(path).absolute())
    return found


def find(name: str, environment: Mapping[str, str], *, secret: bool) -> Found | None:
    """Find the text of a setting, None where it is not set.

    Raises:
        SettingsError: a secret is set twice, or its file is of no use. Neither path nor content
            is told: whoever takes the one variable for the other has the secret in the path.
    """
    found = variables_of(name, environment, secret=secret)
    file = found.get(file_variable(name))
    if not file:
        return Found(found[name], Source.ENVIRONMENT) if found else None
    if name in found:
        raise SettingsError([f"{name} and {file_variable(name)} are both set: unset one of them."])
    try:
        return Found(_read(file), Source.FILE, file)
    except ValueError as error:
        raise SettingsError([f"{file_variable(name)} names a file that {error}."]) from None


def _read(file: str) -> str:
    """Return the content of a file without the newline that editors put at its end."""
    try:
        regular = stat.S_ISREG(Path(file).stat().st_mode)
        # A pipe could keep us waiting for ever.
        text = Path(file).read_text("utf-8").removesuffix("\n") if regular else ""
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:  # what it says quotes the content
        raise ValueError("is not text in UTF-8") from None
    if not text:
        raise ValueError("is empty" if regular else "is not a regular file")
    return text


def find_unknown(
    environment: Mapping[str, str], *, known: Collection[str]
) -> dict[str, str | None]:
    """Return the variables that look like ours and are not, with the known name most like each."""
    # Kubernetes sets some in every process for each service, ours and those with names like ours.
    services = [
        name.removesuffix("_SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST")
    ]
    links = tuple(f"{service}{end}" for service in services for end in ("_SERVICE_", "_PORT"))
    short = {name.removeprefix(_PREFIX): name for name in known}
    unknown: dict[str, str | None] = {}
    for name, text in sorted(environment.items()):
        if text and name.startswith(_PREFIX) and name not in known and not name.startswith(links):
            nearest = get_close_matches(name.removeprefix(_PREFIX), short, n=1)
            unknown[name] = short[nearest[0]] if nearest else None
    return unknown


def mask(secret: str) -> str:
    """Return what may be shown of a secret: of a URL, all but its password; else nothing."""
    if "://" not in secret:
        return _HIDDEN if secret else ""
    return _PARAMETER.sub(rf"\1{_HIDDEN}", _USER.sub(rf"://\1{_HIDDEN}@", secret, count=1))
