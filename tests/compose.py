"""docker-compose.yml as Compose reads it, and its services as processes without containers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")
_SECONDS: Final = {"s": 1.0, "m": 60.0}


class MissingVariableError(Exception):
    """A variable that has to be set is not."""


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Read the file with its variables in their places.

    Raises:
        MissingVariableError: one is missing; what the file says then.
    """
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    document: dict[str, Any] = _interpolate(yaml.safe_load(text), variables)
    return document


def read_env(file: Path) -> dict[str, str]:
    """Read what scripts/env has written."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def read_entrypoint() -> list[str]:
    """Return what the image runs before a service's command."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("ENTRYPOINT ")]
    entrypoint: list[str] = json.loads(line.removeprefix("ENTRYPOINT "))
    return entrypoint


def seconds(duration: str) -> float:
    return float(duration[:-1]) * _SECONDS[duration[-1]]


def _interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolate(each, variables) for each in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _value_of(found, variables), value)
    return value


def _value_of(found: re.Match[str], variables: Mapping[str, str]) -> str:
    escaped, name, operator, word = found.groups()
    if escaped:
        return "$"
    value = variables.get(name)
    if value or (value is not None and operator in {"-", "?", None}):
        return value
    if operator in {"-", ":-"}:
        return str(word)
    raise MissingVariableError(f"{name}: {word or 'is not set'}")


class Uncontained:
    """A service of ours, run with the command, environment and health check of the file.

    Args:
        name: of the service.
        service: what the file says of it.
        places: what stands there, and what is in its place on this machine.
        directory: to work in, as empty as the image's own.
    """

    def __init__(
        self, name: str, service: Mapping[str, Any], *, places: Mapping[str, str], directory: Path
    ) -> None:
        self.name = name
        self._service = service
        self._directory = directory
        self._log = directory.with_name(f"{name}.log")
        self._heartbeat = directory.with_name(f"{name}.heartbeat")
        # Each container has a /tmp of its own.
        self._places = {"/tmp/heartbeat": str(self._heartbeat), **places}  # noqa: S108 - as above
        programs = Path(sys.executable).parent
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            **{key: self._placed(value) for key, value in service["environment"].items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> str:
        """Run it to its end, with more arguments; return what it says."""
        done = self.attempt(*self._service["command"], *arguments)
        assert done.returncode == 0, done.stderr
        assert "setting.ignored" not in done.stderr, "the file sets what means nothing"
        return done.stdout

    def attempt(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run another command in its place, as `docker compose run` does."""
        return subprocess.run(
            self._command(arguments),
            env={**self._environment, **environment},
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> None:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command(self._service["command"]),
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def is_healthy(self) -> bool:
        """Ask as the file says."""
        if self._process and self._process.poll() is not None:
            raise AssertionError(f"{self.name} has ended:\n{self._log.read_text()}")
        check = self._service["healthcheck"]
        kind, *test = map(self._placed, check["test"])
        asked = subprocess.run(
            self._found(test) if kind == "CMD" else ["/bin/sh", "-c", *test],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            timeout=seconds(check["timeout"]),
            check=False,
        )
        return asked.returncode == 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self._process
        os.killpg(self._process.pid, number)

    def let_pass(self, *, seconds: float) -> None:
        """Have its last sign of life be older."""
        before = self._heartbeat.stat().st_mtime - seconds
        os.utime(self._heartbeat, (before, before))

    def ask_to_stop(self) -> None:
        """Send the main process the signal of the file."""
        assert self._process
        self._process.send_signal(signal.Signals[self._service["stop_signal"]])

    def wait_for_end(self) -> int:
        """Wait as long as the file gives it; return its exit code."""
        assert self._process
        return self._process.wait(seconds(self._service["stop_grace_period"]))

    def kill(self) -> None:
        """End whatever is left of it."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return self._found([*read_entrypoint(), *map(self._placed, arguments)])

    def _found(self, command: Sequence[str]) -> list[str]:
        program = shutil.which(command[0], path=self._environment["PATH"])
        assert program, command[0]
        return [program, *command[1:]]

    def _placed(self, text: str) -> str:
        longest_first = sorted(self._places, key=len, reverse=True)
        places = "|".join(map(re.escape, longest_first))
        return re.sub(places, lambda found: self._places[found[0]], text)
