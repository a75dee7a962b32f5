"""Which settings a command has, beside a stack that runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slimtrack.commands.target import read_settings
from slimtrack.domain.errors import SettingsError, StackError
from slimtrack.local.state import StackState
from slimtrack.settings import settings_in
from slimtrack.stack.directory import StateDirectory
from slimtrack.stack.state import hold_lock, write_state

STACK = {
    "DATABASE_URL": "postgresql://owner:hush@127.0.0.1:20001/slimtrack",
    "AMQP_URL": "amqp://slimtrack:hush@127.0.0.1:20002/",
    "REDIS_URL": "redis://:hush@127.0.0.1:20003/0",
    "SLIMTRACK_EVENTS": "on",
    "SLIMTRACK_STAGE_DELAYS": "1,2,3,4",
}
READONLY = "postgresql://readonly:hush@127.0.0.1:20001/slimtrack"


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A shell in which nothing is set."""
    for name in STACK:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    return monkeypatch


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Path]:
    """The directory of a stack that says that it runs."""
    state = StateDirectory(tmp_path)
    with hold_lock(state):
        write_state(
            state,
            StackState(
                pid=1,
                doing="",
                api_url="",
                api_key="",
                environment=STACK,
                readonly_url=READONLY,
                processes=[],
            ),
        )
        yield tmp_path


def test_a_command_does_as_the_stack_whatever_the_shell_says(
    stack: Path, shell: pytest.MonkeyPatch
) -> None:
    shell.setenv("SLIMTRACK_EVENTS", "off")
    shell.setenv("SLIMTRACK_DELIVERY_PAUSE", "99")
    settings = read_settings(stack)
    assert settings.events
    assert list(settings.stage_delays.values()) == [1, 2, 3, 4]
    assert settings.delivery_pause == 10
    assert settings.database_url == STACK["DATABASE_URL"]


def test_a_command_that_only_looks_cannot_do_more(stack: Path) -> None:
    assert read_settings(stack, only_looks=True).database_url == READONLY


def test_a_shell_that_names_the_stacks_database_means_the_stack(
    stack: Path, shell: pytest.MonkeyPatch
) -> None:
    shell.setenv("DATABASE_URL", STACK["DATABASE_URL"])
    assert read_settings(stack).events


def test_a_shell_that_names_the_stacks_database_in_a_file_means_the_stack(
    stack: Path, shell: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(STACK["DATABASE_URL"] + "\n")
    shell.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    assert read_settings(stack).events


def test_a_shell_that_names_a_file_which_is_not_there_means_no_stack(
    stack: Path, shell: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.setenv("DATABASE_URL_FILE", str(tmp_path / "missing"))
    shell.setenv("SLIMTRACK_SET_SIZE", "many")
    with pytest.raises(SettingsError) as caught:
        read_settings(stack)
    named = [fault.partition(" ")[0] for fault in caught.value.faults]
    assert named == ["DATABASE_URL_FILE", "AMQP_URL", "REDIS_URL", "SLIMTRACK_SET_SIZE"]


def test_a_shell_that_names_another_database_means_that_one(
    stack: Path, shell: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "AMQP_URL", "REDIS_URL"):
        shell.setenv(name, STACK[name].replace("127.0.0.1", "elsewhere.example"))
    settings = read_settings(stack)
    assert "elsewhere.example" in settings.database_url
    assert not settings.events


def test_without_stack_and_database_a_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="slimtrack up"):
        read_settings(tmp_path)


def test_only_settings_are_handed_on() -> None:
    other = {"PATH": "/bin", "SLIMTRACK_FAULT": "x", "SLIMTRACK_SET_SIZE": "", "AWS_SECRET": "hush"}
    assert settings_in({**STACK, **other}) == STACK
