"""The whole stack: servers, then migrations, then our processes, until it is told to stop."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from slimtrack.stack.directory import StateDirectory
from slimtrack.stack.logfile import LogFile
from slimtrack.stack.processes import choose_bind, plan_api, plan_workers, url_of
from slimtrack.stack.servers import prepare_servers
from slimtrack.stack.state import ProcessState, StackState, hold_lock, write_state
from slimtrack.stack.supervisor import Supervisor

#: Seconds between two looks at the processes.
_INTERVAL: Final = 0.2


class Interrupted(BaseException):
    """Raised by whoever wants the stack to stop, wherever it is."""


def run_stack(
    directory: Path,
    *,
    environment: Mapping[str, str],
    migrate: Callable[[Mapping[str, str]], None],
    report: Callable[[str], None],
    on_line: Callable[[str, str], None],
    on_change: Callable[[ProcessState], None],
    on_ready: Callable[[StackState], None],
) -> None:
    """Run a stack until ``Interrupted`` is raised in this thread, then stop it in order.

    Args:
        directory: where its state lies.
        environment: what the processes get, besides the servers' URLs.
        migrate: applies the migrations; given the processes' environment.
        report: told of what takes long.
        on_line: told every line that a process writes, from other threads.
        on_change: told of every change of a process's phase.
        on_ready: told once that everything works.

    Raises:
        StackError: another stack runs in the directory, or something does not start.
    """
    state = StateDirectory.create(directory)
    with hold_lock(state), closing(LogFile(state.path)) as log:

        def line_written(name: str, line: str) -> None:
            log.write(name, line)
            on_line(name, line)

        def changed(process: ProcessState) -> None:
            on_change(process)
            write_state(state, describe())

        def describe() -> StackState:
            return StackState(
                pid=os.getpid(),
                api_url=api_url,
                environment=dict(urls),
                processes=supervisor.states,
            )

        api_url = ""
        urls: Mapping[str, str] = {}
        supervisor = Supervisor(on_line=line_written, on_change=changed)
        try:
            write_state(state, describe())
            servers = prepare_servers(directory, environment=environment, report=report)
            supervisor.start(servers.services)
            inner = {**environment, **servers.environment}
            migrate(inner)
            bind = choose_bind(environment)
            supervisor.start(plan_workers(inner), [plan_api(inner, bind=bind)])
            api_url, urls = url_of(bind), servers.environment
            write_state(state, describe())
            on_ready(describe())
            while True:
                supervisor.poll()
                time.sleep(_INTERVAL)
        except Interrupted:
            report("Stopping …")
        finally:
            _stop(supervisor)


def _stop(supervisor: Supervisor) -> None:
    try:
        supervisor.stop()
    except Interrupted:  # a second time: whoever asks has no patience left
        supervisor.kill()
        supervisor.stop()
