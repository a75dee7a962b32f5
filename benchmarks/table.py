"""Everything that is measured, in the order in which it is shown."""

from typing import Final

from benchmarks.measures import (
    accepting,
    flowing,
    holding,
    reading,
    recovering,
    responding,
    waiting,
)

GROUPS: Final = (
    accepting.GROUP,
    flowing.WHOLE,
    responding.GROUP,
    waiting.IDLE,
    flowing.BACKLOG,
    holding.GROUP,
    waiting.WAITING,
    recovering.GROUP,
    reading.GROUP,
)
