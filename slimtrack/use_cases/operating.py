"""The use cases of resources: which servers and processes there are, and how to reach them."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
import structlog

from slimtrack.domain.errors import SlimTrackError
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.local.state import Phase, StackState, running_stack
from slimtrack.process import memory_of_sessions
from slimtrack.sql import operator_actions, processes
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, server_version
from slimtrack.sql.processes import Process
from slimtrack.use_cases.heartbeats import is_alive
from slimtrack.use_cases.holding import Held

_log: Final = structlog.get_logger()

#: Seconds for which what the servers say of their version holds.
_VERSIONS_HOLD: Final = 10.0
#: Seconds for which one look serves everybody who looks.
_HOLDS: Final = 0.4
#: Seconds that somebody waits for a connection who wants a quick answer.
_PROMPT: Final = 1.0
_MASK: Final = "••••••"


class ResourceNotFoundError(SlimTrackError):
    """There is no server or process of this name, or not what is asked of it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no {name} here of which this can be asked.")


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A server or a process, as far as it is known.

    Attributes:
        name: unique among all.
        kind: ``server``, or the kind of process.
        state: a phase of the stack's; ``away`` for what does not answer or gives no sign of life.
        since: when it entered this state, or was started.
        connection: how to connect, without the password; empty where there is no way.
        host: where it runs, if on another machine.
        can_stop: whether the stack on this machine would start it again.
    """

    name: str
    kind: str
    state: str
    address: str = ""
    metrics: str = ""
    pid: int | None = None
    restarts: int | None = None
    since: datetime | None = None
    memory_bytes: int | None = None
    version: str = ""
    connection: str = ""
    queues: list[str] = []
    host: str = ""
    can_stop: bool = False

    @property
    def is_well(self) -> bool:
        """Whether it does its work."""
        return self.state == Phase.READY


class Operating:
    """Knows every server and process: those of the stack on this machine, or by what they say.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        urls: of the servers, by name, with their passwords.
        versions: by the same names, asks a server for its version; None where it does not answer.
        directory: the state directory of the stack that started this process, if one did.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        urls: Mapping[str, str],
        versions: Mapping[str, Callable[[], str | None]],
        directory: Path | None,
    ) -> None:
        self._pool = pool
        self._urls = urls
        self._ask: Mapping[str, Callable[[], str | None]] = {
            **versions,
            "postgresql": partial(server_version, pool),
        }
        self._directory = directory
        self._versions = Held(self._ask_versions, seconds=_VERSIONS_HOLD)
        self._resources = Held(self._look, seconds=_HOLDS)

    @property
    def directory(self) -> Path | None:
        """Where the stack of this machine has its state and its log."""
        return self._directory

    def resources(self) -> list[Resource]:
        """Return every server and process; also while servers are away."""
        return self._resources.get()

    def _look(self) -> list[Resource]:
        seen = self._seen()
        stack = self._stack()
        if stack:
            return self._of_stack(stack, seen)
        return [*self._servers(), *(_of_process(each) for each in seen)]

    def get(self, name: str) -> Resource:
        """Return one of them.

        Raises:
            ResourceNotFoundError: there is none of this name.
        """
        for each in self.resources():
            if each.name == name:
                return each
        raise ResourceNotFoundError(name)

    def reveal(self, name: str, *, action: OperatorAction) -> str:
        """Return how to connect to a server, with the password; it is recorded who was told.

        Raises:
            ResourceNotFoundError: there is no such server.
            UnavailableError: it cannot be recorded.
        """
        if name not in self._urls:
            raise ResourceNotFoundError(name)
        self._record(action, name=ActionName.REVEAL, resource=name)
        return self._url(name)

    def stop(self, name: str, *, action: OperatorAction) -> None:
        """Kill a process of the stack on this machine, which starts it again.

        Raises:
            ResourceNotFoundError: the stack has no such process.
            UnavailableError: it cannot be recorded.
        """
        stack = self._stack()
        found = [each for each in stack.processes if each.name == name] if stack else []
        if not found or not found[0].pid:
            raise ResourceNotFoundError(name)
        self._record(action, name=ActionName.STOP, resource=name)
        os.kill(found[0].pid, signal.SIGKILL)
        _log.warning("process.killed", process=name, killed_pid=found[0].pid)

    def _stack(self) -> StackState | None:
        return running_stack(self._directory) if self._directory else None

    def _seen(self) -> Sequence[Process]:
        try:
            with self._pool.connection(timeout=_PROMPT) as connection:
                return processes.list_processes(connection)
        except psycopg.Error:
            return []

    def _of_stack(self, stack: StackState, seen: Sequence[Process]) -> list[Resource]:
        versions = self._versions.get()
        memory = memory_of_sessions([each.pid for each in stack.processes if each.pid])
        version_of = {each.kind: each.version for each in seen if is_alive(each)}
        named = {each.name for each in stack.processes}
        return [
            *(each for each in self._servers() if each.name not in named),
            *(
                Resource(
                    name=each.name,
                    kind="server" if each.name in self._urls else each.name.partition("-")[0],
                    state=each.phase,
                    address=each.address,
                    metrics=each.metrics,
                    pid=each.pid,
                    restarts=each.restarts,
                    since=datetime.fromtimestamp(each.since, UTC),
                    memory_bytes=memory.get(each.pid) if each.pid else None,
                    version=(
                        versions.get(each.name) or version_of.get(each.name.partition("-")[0], "")
                    ),
                    connection=self._connection(each.name) or each.address,
                    can_stop=bool(each.pid),
                )
                for each in stack.processes
            ),
        ]

    def _servers(self) -> list[Resource]:
        versions = self._versions.get()
        return [
            Resource(
                name=name,
                kind="server",
                state="away" if versions[name] is None else Phase.READY,
                address=_place(url),
                version=versions[name] or "",
                connection=self._connection(name),
            )
            for name, url in self._urls.items()
        ]

    def _url(self, name: str) -> str:
        stack = self._stack() if name == "postgresql" else None
        # Whoever wants to look needs no right to change anything.
        return (stack.readonly_url if stack else "") or self._urls.get(name, "")

    def _connection(self, name: str) -> str:
        return _masked(self._url(name))

    def _ask_versions(self) -> dict[str, str | None]:
        return {name: self._ask[name]() for name in self._urls}

    def _record(self, action: OperatorAction, *, name: ActionName, resource: str) -> None:
        with unavailable_if_away(), self._pool.connection() as connection:
            operator_actions.record_action(
                connection, action, name=name, selection={"resource": resource}, affected=1
            )


def _of_process(process: Process) -> Resource:
    return Resource(
        name=f"{process.kind}-{process.id.hex[-8:]}",
        kind=process.kind,
        state=Phase.READY if is_alive(process) else "away",
        pid=process.pid,
        since=process.started_at,
        memory_bytes=process.memory_bytes,
        version=process.version,
        queues=process.queues,
        host=process.host,
    )


def _place(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _masked(url: str) -> str:
    parts = urlsplit(url)
    account, at, place = parts.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    # What follows the path may name a password as well.
    query = _MASK if parts.query else ""
    return urlunsplit(
        parts._replace(netloc=f"{user}{colon}{_MASK if colon else ''}{at}{place}", query=query)
    )
