"""Where the servers' programs come from: the machine, or Debian's packages."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slimtrack.domain.errors import StackError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of server: what people call it and where its program is found."""

    title: str
    url_variable: str
    package: str
    #: Below the root of a file system; of several versions the newest is taken.
    patterns: tuple[str, ...]


POSTGRESQL: Final = Kind(
    title="PostgreSQL",
    url_variable="DATABASE_URL",
    package="postgresql",
    patterns=("usr/lib/postgresql/*/bin/postgres", "usr/bin/postgres"),
)
RABBITMQ: Final = Kind(
    title="RabbitMQ",
    url_variable="AMQP_URL",
    package="rabbitmq-server",
    # The one in /usr/sbin changes user and directory first.
    patterns=("usr/lib/rabbitmq/bin/rabbitmq-server",),
)
REDIS: Final = Kind(
    title="Redis",
    url_variable="REDIS_URL",
    package="redis-server",
    patterns=("usr/bin/redis-server",),
)


@dataclass(frozen=True, slots=True)
class Program:
    """A server's program, below the root of the file system that its package went to."""

    path: Path
    root: Path = Path("/")

    @property
    def env(self) -> Mapping[str, str]:
        """What its process needs to find its own parts; nothing else is handed to it."""
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        if self.root != Path("/"):
            libraries = [*self.root.glob("usr/lib/*-linux-*"), *self.root.glob("lib/*-linux-*")]
            env["PATH"] = f"{self.root}/usr/bin:{env['PATH']}"
            env["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        return env


def provide(
    kinds: Collection[Kind], *, environment: Mapping[str, str], report: Callable[[str], None]
) -> dict[Kind, Program]:
    """Find the program of each kind of server; install what is missing.

    Raises:
        StackError: one is missing and cannot be installed here; it says what to do.
    """
    unpacked = _unpacked_root(environment)
    found = _find(kinds, unpacked)
    if len(found) == len(kinds):
        return found
    if not shutil.which("apt-get"):
        raise _missing([kind for kind in kinds if kind not in found], "apt-get is not here")
    with _installing(unpacked.parent):
        found = _find(kinds, unpacked)  # another stack may have done it while we waited
        missing = [kind for kind in kinds if kind not in found]
        if missing:
            report(f"Installing {' and '.join(kind.title for kind in missing)} …")
            packages = [kind.package for kind in missing]
            try:
                if os.geteuid() == 0:
                    _install(packages)
                else:
                    _unpack(packages, unpacked)
            except _CommandError as error:
                raise _missing(missing, str(error)) from error
            found = _find(kinds, unpacked)
    missing = [kind for kind in kinds if kind not in found]
    if missing:
        raise _missing(missing, "its package did not bring the program")
    return found


class _CommandError(Exception):
    """A command of the package system failed."""


def _missing(kinds: Collection[Kind], reason: str) -> StackError:
    titles = ", ".join(kind.title for kind in kinds)
    packages = " ".join(kind.package for kind in kinds)
    variables = ", ".join(kind.url_variable for kind in kinds)
    return StackError(
        f"Not on this machine, and not to be installed from here ({reason}): {titles}.\n"
        f"Install it yourself (Debian, Ubuntu: apt-get install {packages}), "
        f"or set {variables} to a server that runs elsewhere."
    )


def _unpacked_root(environment: Mapping[str, str]) -> Path:
    """Name the root of packages unpacked without being root: shared by all stacks of a user."""
    if os.geteuid() == 0:
        return Path("/var/cache/slimtrack/packages")
    cache = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "slimtrack/packages"


def _find(kinds: Collection[Kind], unpacked: Path) -> dict[Kind, Program]:
    found = {}
    for kind in kinds:
        for root in (Path("/"), unpacked):
            paths = [path for pattern in kind.patterns for path in root.glob(pattern)]
            if paths:
                found[kind] = Program(max(paths, key=_version), root)
                break
    return found


def _version(path: Path) -> list[int]:
    """Read the version in …/postgresql/15/bin/postgres; a path without one is the oldest."""
    return [int(part) for part in path.parts[-3].split(".") if part.isdecimal()]


@contextmanager
def _installing(cache: Path) -> Iterator[None]:
    """Let one process at a time install; the lock ends with its holder."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(packages: list[str]) -> None:
    """Install packages on the machine, as root, without their default instances starting."""
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        _run("apt-get", "-qq", "update", env=env)
        _run(
            *("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"),
            *("install", "--yes", "--no-install-recommends", *packages),
            env=env,
        )


#: The administrator's word to packages on whether services may start: no (101).
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_NO_STARTS: Final = "#!/bin/sh\n# Put here by slimtrack while it installs packages.\nexit 101\n"


@contextmanager
def _no_service_starts() -> Iterator[None]:
    # One of ours can only be left from an installation that was killed.
    if _POLICY.exists() and _POLICY.read_text(encoding="utf-8") != _NO_STARTS:
        yield
        return
    _POLICY.write_text(_NO_STARTS, encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _unpack(packages: list[str], root: Path) -> None:
    """Unpack packages and what they need below ``root``; nothing of theirs is run."""
    draft = root.with_name("packages.new")
    shutil.rmtree(draft, ignore_errors=True)
    archives = draft / "archives"
    archives.mkdir(parents=True)
    if root.exists():
        shutil.copytree(root, draft / "root", symlinks=True)
    # Lists of our own: those of the machine may be missing or old, and only root renews them.
    for folder in ("lists/partial", "cache/archives/partial"):
        (draft / folder).mkdir(parents=True)
    apt = (
        *("apt-get", "-qq", "-o", f"Dir::State::lists={draft}/lists"),
        *("-o", f"Dir::Cache={draft}/cache", "-o", "Acquire::Retries=3"),
    )
    _run(*apt, "update")
    plan = _run(*apt, "--simulate", "--no-install-recommends", "install", *packages)
    needed = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    _run(*apt, "download", *needed, cwd=archives)
    for archive in sorted(archives.iterdir()):
        _run("dpkg-deb", "--extract", str(archive), str(draft / "root"))
    erl = draft / "root/usr/lib/erlang/bin/erl"
    if erl.exists():  # Debian's names its place, which is another now
        text = erl.read_text(encoding="utf-8")
        erl.write_text(
            text.replace("=/usr/lib/erlang", f"={root}/usr/lib/erlang"), encoding="utf-8"
        )
    if root.exists():
        shutil.rmtree(root)
    (draft / "root").rename(root)
    shutil.rmtree(draft)


def _run(*command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - fixed commands, package names of our own
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", **(env or {})},
        cwd=cwd,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise _CommandError(f"{command[0]} says: {said[-1] if said else 'nothing'}")
    return done.stdout
