"""Runs statements of ours with pgbench: what PostgreSQL can do, without any Python."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.figures import FaultError
from benchmarks.system import System
from slimtrack.stack.provision import POSTGRESQL, provide

_PARAMETER: Final = re.compile(r"%\((\w+)\)[sbt]")
_RATE: Final = re.compile(r"^tps = ([\d.]+) ", re.MULTILINE)


def script_of(statement: str, values: Mapping[str, str]) -> str:
    """Put pgbench's variables, or literals, in the place of a statement's parameters.

    Raises:
        KeyError: a parameter has none.
    """
    return _PARAMETER.sub(lambda match: values[match[1]], statement) + ";\n"


def run_pgbench(
    system: System,
    script: str,
    *,
    clients: int,
    until: str,
    variables: Mapping[str, int] = {},
    options: Mapping[str, str] = {},
) -> float:
    r"""Run a script, prepared, over and over; return how often a second it was done.

    Args:
        system: where.
        script: what, with its ``\set`` lines.
        clients: connections.
        until: ``-T`` seconds, or ``-t`` times for each client.
        variables: set at the beginning, for each client.
        options: settings of each session.

    Raises:
        FaultError: it failed.
    """
    program = provide([POSTGRESQL], environment={}, report=print)[POSTGRESQL]
    session = " ".join(f"-c {name}={value}" for name, value in options.items())
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
            [
                *(str(program.path.with_name("pgbench")), "--no-vacuum", "--protocol=prepared"),
                *("--client", str(clients), "--jobs", "2", "--file", file.name, *until.split()),
                *(f"--define={name}={value}" for name, value in variables.items()),
                system.environment["DATABASE_URL"],
            ],
            env={**program.env, "PGOPTIONS": session},
            cwd=Path("/"),
            capture_output=True,
            text=True,
            check=False,
        )
    rate = _RATE.search(done.stdout)
    if done.returncode != 0 or not rate or "failed" in done.stderr:
        raise FaultError(f"pgbench: {done.stderr.strip()[-800:]}")
    return float(rate[1])
