"""Everything that is measured, in the order in which it is shown."""

from typing import Final

from benchmarks.measures import (
    accepting,
    draining,
    flowing,
    growing,
    holding,
    looking,
    moving,
    reading,
    recovering,
    responding,
    soaking,
    waiting,
    watching,
)

GROUPS: Final = (
    accepting.GROUP,
    draining.GROUP,
    moving.GROUP,
    flowing.WHOLE,
    watching.GROUP,
    looking.GROUP,
    responding.GROUP,
    waiting.IDLE,
    flowing.BACKLOG,
    holding.GROUP,
    waiting.WAITING,
    recovering.GROUP,
    reading.GROUP,
    growing.SIZES,
    growing.WORKERS,
    soaking.GROUP,
    looking.MEMORY,
)
