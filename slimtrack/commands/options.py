"""What several commands ask for, and what it says."""

import getpass
import os
import re
from enum import IntEnum
from typing import Annotated, Final

import typer

from slimtrack.domain.errors import FieldError
from slimtrack.domain.operator_action import OperatorAction, clean_reason

#: Seconds of a unit that ages are told in.
UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with who and when.")]
Operator = Annotated[
    str | None, typer.Option(help="Who does it.", show_default="the user of the system")
]


class Exit(IntEnum):
    """What an exit code says that is not 0; of `status`, as systemctl's where they say the same."""

    #: Something is not as it should be.
    AMISS = 1
    #: What was given cannot be used.
    UNUSABLE = 2
    #: No process of the system runs.
    NOT_RUNNING = 3
    #: By Ctrl-C, as a shell has it: 128 and the signal's number.
    INTERRUPTED = 130


def age_of(text: str) -> float:
    """Read an age, in seconds."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not found:
        raise typer.BadParameter("must be a number and a unit, as in 90s, 15m, 2h or 3d.")
    return float(int(found[1]) * UNITS[found[2]])


def action_of(
    operator: str | None, reason: str, *, operation: str | None = None, needs_reason: bool = False
) -> OperatorAction:
    """Say who acts, by default the user of the system, why, and under which name."""
    if operator is None:
        try:
            operator = getpass.getuser()
        except (KeyError, OSError):  # a container may have no name for its user
            operator = f"uid {os.getuid()}"
    if reason or needs_reason:
        try:
            reason = clean_reason(reason)
        except FieldError as error:
            raise typer.BadParameter(f"{error.reason}.", param_hint="--reason") from error
    return OperatorAction(operator=operator, reason=reason, operation=operation)
