"""What a process tells whoever watches it."""

import socket
from pathlib import Path

import pytest

from slimtrack.process import notify_alive, notify_ready


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Whoever started this process, and reads what it says."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    listening.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    return listening


def test_a_sign_of_life_is_for_a_manager_that_asks_for_it(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manager:
        notify_alive()
        with pytest.raises(BlockingIOError):
            manager.recv(64)
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        notify_alive()
        assert manager.recv(64) == b"WATCHDOG=1"
        notify_ready()
        assert manager.recv(64) == b"READY=1"


def test_a_manager_that_does_not_listen_holds_nobody_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    with manager:
        for _ in range(10_000):  # more than wait for anybody
            notify_alive()
        assert manager.recv(64) == b"WATCHDOG=1"
    notify_alive()


def test_a_file_shows_that_the_process_lived_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = tmp_path / "heartbeat"
    monkeypatch.setenv("SLIMTRACK_HEARTBEAT_FILE", str(heartbeat))
    notify_alive()
    assert heartbeat.exists()
    monkeypatch.setenv("SLIMTRACK_HEARTBEAT_FILE", str(tmp_path / "nowhere/heartbeat"))
    notify_alive()  # and goes on
