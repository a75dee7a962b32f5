"""The whole stack: servers, then migrations, then our processes, until it is told to stop."""

import os
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

from slimtrack.local.state import ProcessState, StackState
from slimtrack.settings import STATE_DIRECTORY, is_loopback, settings_in
from slimtrack.sql.roles import Role
from slimtrack.stack.directory import StateDirectory
from slimtrack.stack.logfile import LogFile
from slimtrack.stack.processes import (
    choose_bind,
    plan_api,
    plan_publisher,
    plan_workers,
    url_of,
    with_metrics,
)
from slimtrack.stack.provision import POSTGRESQL
from slimtrack.stack.servers import prepare_servers
from slimtrack.stack.state import hold_lock, write_state
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.access import new_token

#: Seconds between two looks at the processes.
_INTERVAL: Final = 0.2


class Interrupted(BaseException):
    """Raised by whoever wants the stack to stop, wherever it is."""


class Audience(Protocol):
    """Who is told of what happens; ``line`` is called from many threads."""

    def report(self, text: str) -> None:
        """Hear what the stack does now."""

    def line(self, name: str, line: str) -> None:
        """Hear a line that a process wrote."""

    def change(self, process: ProcessState) -> None:
        """Hear of a process's new phase."""

    def ready(self, stack: StackState) -> None:
        """Hear once that everything works."""


class Database(Protocol):
    """What is done in the database before the processes start, given their environment."""

    def migrate(self, environment: Mapping[str, str]) -> None:
        """Apply the migrations."""

    def let_in(self, environment: Mapping[str, str], passwords: Mapping[Role, str]) -> None:
        """Let roles log in with these passwords."""

    def admit(self, environment: Mapping[str, str], token: str) -> None:
        """Make a token an API key of the default tenant."""


def run_stack(
    directory: Path,
    *,
    environment: Mapping[str, str],
    database: Database,
    audience: Audience,
) -> None:
    """Run a stack until ``Interrupted`` is raised in this thread, then stop it in order.

    Args:
        directory: where its state lies.
        environment: what the processes get, besides the servers' URLs.
        database: is made ready for the processes.
        audience: told of what happens.

    Raises:
        StackError: another stack runs in the directory, or something does not start.
    """
    state = StateDirectory.create(directory)
    with hold_lock(state), closing(LogFile(state.path)) as log:
        host = _Host(state, log=log, audience=audience)
        try:
            host.start(environment, database)
            host.look_after()
        except Interrupted:
            host.report("Stopping …")
        finally:
            host.stop()


class _Host:
    """A stack, its log and the file that tells others of it."""

    def __init__(self, state: StateDirectory, *, log: LogFile, audience: Audience) -> None:
        self._state = state
        self._log = log
        self._audience = audience
        self._supervisor = Supervisor(on_line=self._line, on_change=self._change)
        self._doing = self._api_url = self._api_key = ""
        #: The settings of commands: those of the processes, as an operator.
        self._environment: Mapping[str, str] = {}
        self._readonly_url = ""

    def start(self, environment: Mapping[str, str], database: Database) -> None:
        self.report("Looking for the servers …")
        servers = prepare_servers(self._state.path, environment=environment, report=self.report)
        inner = {**environment, **servers.environment}
        bind = choose_bind(environment)
        # Before anything is started: this is where a wrong setting shows.
        roles = self._roles(inner) if POSTGRESQL in servers.private else {}
        operator = {**inner, **roles.get(Role.OWNER, {})}
        api = plan_api(
            {**_shown(bind), **inner, **roles.get(Role.API, {}), **self._place()}, bind=bind
        )
        workers = [
            plan_publisher({**inner, **roles.get(Role.PUBLISHER, {})}),
            *plan_workers({**inner, **roles.get(Role.WORKER, {})}),
        ]
        if metrics := environment.get("SLIMTRACK_METRICS_BIND"):
            *workers, api = with_metrics([*workers, api], bind=metrics, api_bind=bind)
        if servers.services:
            self.report("Starting the servers …")
            self._supervisor.start(servers.services)
        self.report("Applying the migrations …")
        # As the superuser, since the migrations make the roles; from here on nobody is one.
        database.migrate(inner)
        database.let_in(inner, {role: self._password(role) for role in roles})
        self._api_key = self._state.secret("api-key", make=new_token)
        database.admit(operator, self._api_key)
        self.report("Starting the processes …")
        self._supervisor.start(workers, [api])
        self._api_url = url_of(bind)
        self._environment = settings_in({**operator, "SLIMTRACK_API_BIND": bind})
        if roles:
            self._readonly_url = roles[Role.READONLY][POSTGRESQL.url_variable]
        self._write()
        self._audience.ready(self._describe())

    def _roles(self, environment: Mapping[str, str]) -> dict[Role, dict[str, str]]:
        """Return where each role finds the database: only a private one has our passwords."""
        variable = POSTGRESQL.url_variable
        place = environment[variable].rpartition("@")[2]
        return {
            role: {variable: f"postgresql://{role}:{self._password(role)}@{place}"} for role in Role
        }

    def _place(self) -> dict[str, str]:
        """Say where the API finds our state and our log."""
        return {STATE_DIRECTORY.name: str(self._state.path)}

    def _password(self, role: Role) -> str:
        return self._state.secret(role)

    def look_after(self) -> None:
        while True:
            self._supervisor.poll()
            time.sleep(_INTERVAL)

    def stop(self) -> None:
        try:
            self._supervisor.stop()
        except Interrupted:  # a second time: whoever asks has no patience left
            self._supervisor.kill()
            self._supervisor.stop()

    def report(self, text: str) -> None:
        self._doing = text
        self._audience.report(text)
        self._write()

    def _line(self, name: str, line: str) -> None:
        self._log.write(name, line)
        self._audience.line(name, line)

    def _change(self, process: ProcessState) -> None:
        self._audience.change(process)
        self._write()

    def _write(self) -> None:
        write_state(self._state, self._describe())

    def _describe(self) -> StackState:
        return StackState(
            pid=os.getpid(),
            doing=self._doing,
            api_url=self._api_url,
            api_key=self._api_key,
            environment=dict(self._environment),
            readonly_url=self._readonly_url,
            processes=self._supervisor.states,
        )


def _shown(bind: str) -> dict[str, str]:
    """Return what a stack for development has that others do not, unless it is set."""
    return {"SLIMTRACK_SIMULATION": "on"} if is_loopback(bind) else {}
