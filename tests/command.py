"""The command, as a process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def run_slimtrack(
    *arguments: str | bytes, environment: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; options are those of ``subprocess.run``."""
    return subprocess.run(
        [sys.executable, "-m", "slimtrack", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **{"timeout": 150, **options},
    )
