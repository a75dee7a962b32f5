"""What can be watched."""

from collections.abc import Mapping
from typing import Protocol


class Topic(Protocol):
    """What can be watched."""

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        """Return the state of each key, in one look; keys without one are left out."""
