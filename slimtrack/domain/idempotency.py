"""Commands that are carried out once, however often they are sent."""

from collections.abc import Mapping
from typing import Final

import msgspec

from slimtrack.domain.errors import SlimTrackError


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's name for one command, and a digest of what it says."""

    tenant_id: int
    key: str
    fingerprint: bytes


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a command was answered, to be given again byte for byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    replayed: bool = False


#: What begins the keys of rows: no key of a whole request has a space.
ROW: Final = "row "


class KeyReusedError(SlimTrackError):
    """The key was used before, for another command."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key.removeprefix(ROW)!r} was used before, for a request that"
            " said something else."
        )


class KeyInUseError(SlimTrackError):
    """A command with this key is being carried out."""

    def __init__(self, key: str) -> None:
        super().__init__(f"A request with the idempotency key {key!r} is being worked on.")
