"""Crash points: named places at which a test lets a process die, fail, sleep or stand still.

Nothing happens unless ``SLIMTRACK_FAULT`` names one of them: with
``publisher.after_claim:kill@3`` the process kills itself at its third arrival there. Several are
separated by commas; the other actions are ``raise``, ``stop`` (SIGSTOP) and ``sleep=SECONDS``.
Every fault fires once, in however many processes it is armed: the one that fires makes a file of
the point's name in ``SLIMTRACK_FAULT_DIR``, which is also how a test knows that it did.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from slimtrack.domain.errors import SettingsError, SlimTrackError

#: Every crash point, and where it lies.
POINTS: Final[Mapping[str, str]] = {
    "place.before_commit": "before an order is stored",
    "place.after_commit": "an order is stored, its caller not answered",
    "publisher.after_claim": "rows are locked, nothing is published",
    "publisher.after_publish": "the broker has confirmed messages, the publisher has not heard",
    "publisher.some_confirmed": "some messages of a claim are confirmed, others not yet",
    "publisher.before_mark": "all are confirmed, no row is marked",
    "publisher.after_commit": "the rows are marked",
    "actor.before_statement": "a set has arrived, nothing has changed",
    "actor.after_commit": "the orders have moved, the message is not acknowledged",
    "work.before_call": "a row is locked, its work is not called yet",
    "work.after_call": "the work is done, the order has not moved",
    "work.after_undo": "the work is undone, the row that asked for it is still there",
    "retry.before_rearm": "the work has failed, its rows are still in flight",
    "retry.after_rearm": "the rows are due again, the message is not acknowledged",
    "retry.after_count": "an attempt is counted, its work has not begun",
    "reconciler.after_rearm": "some lost rows are due again, others perhaps not",
    "drain.after_store": "a rejected message is stored, and still in the broker's queue",
    "fan_out.before_commit": "events are published, their rows are not gone yet",
    "prune.after_file": "an archive is complete, nothing of it is deleted",
    "prune.half_deleted": "some orders of an archive are deleted, others are not",
    "prune.before_drop": "the orders are deleted, their events are not",
    "migration.before_commit": "a migration has run, and is not recorded",
}

_ACTIONS: Final = ("kill", "raise", "stop", "sleep")


class FaultError(SlimTrackError):
    """What the action ``raise`` raises."""


@dataclass(slots=True)
class _Fault:
    action: str
    seconds: float
    at: int
    arrivals: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def point(name: str) -> None:
    """Pass a crash point; something happens here only if a test has armed it.

    Raises:
        FaultError: the point is armed with ``raise``.
        SettingsError: ``SLIMTRACK_FAULT`` cannot be understood.
    """
    if armed := _armed():
        fault = armed.get(name)
        if fault is not None:
            _arrive(name, fault)


@cache
def _armed() -> dict[str, _Fault]:
    return parse(os.environ.get("SLIMTRACK_FAULT", ""))


def parse(text: str) -> dict[str, _Fault]:
    """Read ``POINT:ACTION[=SECONDS][@ARRIVAL]``, separated by commas.

    Raises:
        SettingsError: it is something else, or names an unknown point.
    """
    faults: dict[str, _Fault] = {}
    for part in text.split(",") if text else ():
        name, _, what = part.strip().partition(":")
        action, _, at = what.partition("@")
        action, _, seconds = action.partition("=")
        try:
            fault = _Fault(action, float(seconds or 0), int(at or 1))
        except ValueError:
            fault = _Fault("", 0, 0)
        if name not in POINTS or fault.action not in _ACTIONS or fault.at < 1:
            raise SettingsError(
                [f"SLIMTRACK_FAULT has {part!r}, which is not POINT:ACTION[=SECONDS][@ARRIVAL]."]
            )
        faults[name] = fault
    return faults


def _arrive(name: str, fault: _Fault) -> None:
    with fault.lock:
        fault.arrivals += 1
        if fault.arrivals != fault.at or not _first(name):
            return
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action == "sleep":
        time.sleep(fault.seconds)
    else:
        raise FaultError(f"The fault {name} was asked for.")


def _first(name: str) -> bool:
    """Say whether this process is the first to let the fault happen."""
    directory = os.environ.get("SLIMTRACK_FAULT_DIR")
    if not directory:
        return True
    try:
        (Path(directory) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
