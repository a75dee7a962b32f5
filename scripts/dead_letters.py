#!/usr/bin/env python3
"""Inspect dead letters: ``slimtrack dead-letters …``, after the set-up if it is missing."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    run = Path(__file__).resolve().with_name("run")
    os.execv(run, [str(run), "dead-letters", *sys.argv[1:]])  # noqa: S606 - no shell is wanted
