"""The composition root: the only package that picks concrete parts, a module per process."""

from slimtrack.bootstrap.commands import (
    open_access,
    open_auditing,
    open_dead_letters,
    open_presence,
    open_pruning,
    open_tracking,
)
from slimtrack.bootstrap.database import let_in, migrate
from slimtrack.bootstrap.errors import report_errors

__all__ = [
    "let_in",
    "migrate",
    "open_access",
    "open_auditing",
    "open_dead_letters",
    "open_presence",
    "open_pruning",
    "open_tracking",
    "report_errors",
]
