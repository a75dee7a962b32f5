"""The state directory: what a stack's servers keep from one start to the next."""

import fcntl
import os
import pwd
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from slimtrack.domain.errors import StackError
from slimtrack.settings import state_directory

#: Below the range from which Linux takes the ports of outgoing connections: such a connection
#: could take a server's port while it restarts, even one that wants to connect to that server.
_PORTS: Final = range(20_000, 32_768)
#: RabbitMQ's own, for talking to other nodes.
_DEFAULT_PORTS: Final = frozenset({25_672})


def default_directory(environment: Mapping[str, str]) -> Path:
    """Say where a stack's state lies unless a command is told otherwise."""
    if given := state_directory(environment):
        return given
    if os.geteuid() == 0:
        return Path("/var/lib/slimtrack")
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "slimtrack"


def free_ports(count: int) -> list[int]:
    """Find ports of 127.0.0.1 that nobody listens on, and that are no server's default."""
    found: list[int] = []
    with ExitStack() as bound:
        for port in secrets.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                return found
            if port in _DEFAULT_PORTS:
                continue
            candidate = bound.enter_context(socket.socket())
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    raise StackError(f"No free port from {_PORTS.start} to {_PORTS.stop - 1} on 127.0.0.1.")


def account_for(name: str) -> str | None:
    """Name the user that a server runs as: ``name`` if we are root, None for ourselves.

    Raises:
        StackError: we are root and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise StackError(
            f"There is no user {name!r}, and servers are not run as root. "
            "Install the server's package, which creates it, or run SlimTrack as another user."
        ) from None
    return name


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """A directory that is ours alone to write, and that the servers' users can reach."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the directory, or take it as an earlier start left it.

        Raises:
            StackError: it cannot be made, is another user's, or is out of the servers' reach.
        """
        path = path.absolute()
        if re.search(r"[\s'\"\\$]", str(path)):
            raise StackError(
                f"The state directory {str(path)!r} has a space, quote, backslash or dollar in "
                "its path, which the servers' start scripts do not bear. "
                "Set SLIMTRACK_STATE_DIR to another one."
            )
        root = os.geteuid() == 0
        try:
            path.mkdir(parents=True, exist_ok=True)
            owner = path.stat().st_uid
            if owner == os.geteuid():
                path.chmod(0o755 if root else 0o700)
        except OSError as error:
            raise StackError(
                f"The state directory {path} cannot be made: {error.strerror}. "
                "Set SLIMTRACK_STATE_DIR to one that can."
            ) from error
        if owner != os.geteuid():
            raise StackError(
                f"The state directory {path} belongs to another user. "
                "Run as that user, or set SLIMTRACK_STATE_DIR to another directory."
            )
        if root:
            _check_reach(path)
        return cls(path)

    def folder(self, name: str, *, user: str | None = None) -> Path:
        """Make a folder that only ``user`` can enter; without a user everyone can."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        if user:
            account = pwd.getpwnam(user)
            os.chown(path, account.pw_uid, account.pw_gid)
        path.chmod(0o700 if user or os.geteuid() != 0 else 0o755)
        return path

    def write(self, name: str, text: str, *, user: str | None = None, mode: int = 0o600) -> Path:
        """Write a file, whole or not at all; its folder has to be ours, not ``user``'s."""
        path = self.path / name
        draft = path.with_name(f"{path.name}.new")
        draft.unlink(missing_ok=True)
        with open(draft, "x", encoding="utf-8", opener=_private) as file:
            file.write(text)
            file.flush()
            if user:
                account = pwd.getpwnam(user)
                os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.rename(path)
        return path

    def secret(self, name: str, *, make: Callable[[], str] = secrets.token_urlsafe) -> str:
        """Read the secret of this name; one is made when it is asked for the first time."""
        path = self.folder("secrets") / name
        if not path.exists():
            self.write(f"secrets/{name}", make())
        return path.read_text(encoding="utf-8")


def is_locked(folder: Path) -> bool:
    """Say whether a server, or any process it left behind, still works on ``folder``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def locking(folder: Path, *command: str) -> tuple[str, ...]:
    """Make a command that waits until no other works in ``folder``, then becomes ``command``.

    The kernel gives the lock back when the last process that inherited it has ended: a server
    never starts on data that one of a killed stack still has open, and nothing can be stale.
    """
    # The server's user may not be able to enter the directory that we were started in.
    return ("env", f"--chdir={folder}", "flock", "--exclusive", "--no-fork", str(folder), *command)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _check_reach(path: Path) -> None:
    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            raise StackError(
                f"The state directory {path} is out of the servers' reach: as root they are run "
                f"as users of their own, and {folder} is closed to them. "
                "Set SLIMTRACK_STATE_DIR to another directory, or leave it unset for "
                "/var/lib/slimtrack."
            )
