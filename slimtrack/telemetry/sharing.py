"""Where the processes of a group keep their metrics, so that one page shows the sums.

Nothing of prometheus-client is imported here: it looks at the environment when it is imported.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from slimtrack.domain.errors import SettingsError
from slimtrack.process import started_at

#: Names the directory; prometheus-client reads it.
VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
#: In memory: a page of a file is written for every count, and a disk would be waited for.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder in it is ours alone


def share_metrics(*, master: int) -> None:
    """Have this process, and those it forks, keep their metrics beside all others of a master.

    Has to come before prometheus-client is imported. Each run of a master has a directory of its
    own; what masters that have ended left behind is removed.

    Args:
        master: the id of the process that forks the others.

    Raises:
        SettingsError: somebody else owns the place.
    """
    directory = directory_of(master)
    _make_private(directory.parent)
    for each in directory.parent.iterdir():
        process = each.name.partition("-")[0]
        if process.isdecimal() and each.name != _run_of(int(process)):
            shutil.rmtree(each, ignore_errors=True)
    directory.mkdir(exist_ok=True)
    os.environ[VARIABLE] = str(directory)


def forget_metrics(*, master: int) -> None:
    """Remove what the processes of a master have counted; all of them have ended."""
    shutil.rmtree(directory_of(master), ignore_errors=True)


def directory_of(master: int) -> Path:
    """Return where the processes of a running master keep their metrics."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    return place / f"slimtrack-metrics-{os.geteuid()}" / (_run_of(master) or f"{master}-0")


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat(follow_symlinks=False).st_uid != os.geteuid():
        raise SettingsError(
            [f"{folder}, where metrics are kept, belongs to another user: it has to be removed."]
        )


def _run_of(process: int) -> str | None:
    """Name one run of a process, also when its id is used again; None where there is none."""
    started = started_at(process)
    return None if started is None else f"{process}-{started}"
