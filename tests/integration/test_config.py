"""Settings as a person and a process have them."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command import run_slimtrack

from slimtrack.local.state import running_stack

SECRETS = ("DATABASE_URL", "AMQP_URL", "REDIS_URL")


def slimtrack(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_slimtrack(*arguments, environment=environment)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place that a stack's processes can reach."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-config-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def in_files(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment of a process, its secrets in files, as editors leave them."""
    named = {name: text for name, text in environment.items() if name not in SECRETS}
    for name in SECRETS:
        file = folder / name.lower()
        file.write_text(environment[name] + "\n")
        named[f"{name}_FILE"] = str(file)
    return {**named, "SLIMTRACK_STATE_DIR": str(folder / "state")}


def passwords_of(environment: dict[str, str]) -> list[str]:
    found = [urlsplit(environment[name]).password or "" for name in SECRETS]
    assert all(found)
    return found


def test_settings_are_shown_with_their_source_and_without_passwords(
    environment: dict[str, str], in_files: dict[str, str]
) -> None:
    done = slimtrack("config", **in_files, SLIMTRACK_SET_SIZ="7")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert in_files["DATABASE_URL_FILE"] in lines["DATABASE_URL"]
    assert ":***@127.0.0.1:" in lines["DATABASE_URL"]
    assert lines["SLIMTRACK_AUTH"].split()[1:3] == ["off", "environment"]
    assert lines["SLIMTRACK_SET_SIZE"].split()[1:3] == ["100", "default"]
    assert lines["SLIMTRACK_STATE_DIR"].split()[1:3] == [
        in_files["SLIMTRACK_STATE_DIR"],
        "environment",
    ]
    assert done.stderr == (
        "SLIMTRACK_SET_SIZ is no setting and means nothing here; "
        "the one most like it is SLIMTRACK_SET_SIZE.\n"
    )

    as_json = slimtrack("config", "--json", **in_files)
    rows = {row["name"]: row for row in json.loads(as_json.stdout)}
    assert rows["AMQP_URL"]["source"] == "file"
    assert rows["AMQP_URL"]["file"] == in_files["AMQP_URL_FILE"]
    for password in passwords_of(environment):
        assert password not in done.stdout + as_json.stdout


def test_all_that_is_wrong_with_the_settings_is_told_at_once(in_files: dict[str, str]) -> None:
    wrong = {
        **in_files,
        "DATABASE_URL_FILE": "postgresql://slimtrack:hush@127.0.0.1/x",
        "SLIMTRACK_SET_SIZE": "many",
    }
    for command in ("config", "api", "migrate"):
        done = slimtrack(command, **wrong)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines() == [
            "DATABASE_URL_FILE names a file that cannot be read: No such file or directory.",
            "SLIMTRACK_SET_SIZE must be a whole number from 1 to 1000.",
        ]


def test_a_process_warns_of_a_variable_that_means_nothing(in_files: dict[str, str]) -> None:
    done = slimtrack("migrate", **in_files, SLIMTRACK_RATE_LIMITS="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The database is up to date.\n"
    [warning] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (warning["event"], warning["level"]) == ("setting.ignored", "warning")
    assert (warning["setting"], warning["nearest"]) == (
        "SLIMTRACK_RATE_LIMITS",
        "SLIMTRACK_RATE_LIMIT",
    )


def test_a_stack_works_with_secrets_in_files_and_hands_on_their_paths(
    environment: dict[str, str], in_files: dict[str, str], folder: Path
) -> None:
    started = slimtrack("up", "--detach", **in_files, SLIMTRACK_AUHT="off")
    try:
        assert started.returncode == 0, started.stderr
        assert started.stdout.startswith("SLIMTRACK_AUHT is no setting")
        assert started.stdout.count("SLIMTRACK_AUHT") == 1
        stack = running_stack(folder / "state")
        assert stack
        assert stack.is_ready
        seen = (folder / "state/stack.json").read_text()
        pids = [process.pid for process in stack.processes]
        assert len(pids) == 6
        for pid in pids:
            words = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"DATABASE_URL_FILE=" in words
            seen += words.decode()
        for password in passwords_of(environment):
            assert password not in seen

        # In a shell where nothing is set but where the stack is.
        beside = {name: in_files[name] for name in ("PATH", "SLIMTRACK_STATE_DIR")}
        audit = slimtrack("audit", **beside)
        assert audit.returncode == 0, audit.stderr
        rows = json.loads(slimtrack("config", "--json", **beside).stdout)
        sources = {row["name"]: row["source"] for row in rows}
        assert sources["DATABASE_URL"] == "file"
        assert sources["SLIMTRACK_AUTH"] == "stack"
        assert sources["SLIMTRACK_SET_SIZE"] == "default"
    finally:
        stopped = slimtrack("down", **in_files)
    assert "Everything has stopped." in stopped.stdout
