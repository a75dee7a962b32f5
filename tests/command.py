"""The command, as a process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def run_slimtrack(
    *arguments: str | bytes, environment: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; options are those of ``subprocess.run``.

    Its lines are long, so that what is looked for in them is not broken into two.
    """
    return subprocess.run(
        [sys.executable, "-m", "slimtrack", *arguments],
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        **{"timeout": 150, **options},
    )
