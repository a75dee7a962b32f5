"""The local stack: up, status, logs, down."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slimtrack import bootstrap
from slimtrack.commands.options import AsJson, Exit
from slimtrack.commands.presence import show_presence
from slimtrack.commands.target import StateDir, describe_unknown, directory_of
from slimtrack.domain.access import DEFAULT_TENANT_NAME, Scope
from slimtrack.domain.errors import StackError
from slimtrack.environment import variables_of
from slimtrack.local.state import Phase, ProcessState, StackState, running_stack
from slimtrack.settings import Settings
from slimtrack.sql.roles import Role
from slimtrack.stack.directory import StateDirectory
from slimtrack.stack.host import Interrupted, run_stack
from slimtrack.stack.logfile import follow as follow_log
from slimtrack.stack.logfile import read_last
from slimtrack.stack.provision import POSTGRESQL

#: Seconds between two looks at a stack that starts or stops.
_INTERVAL: Final = 0.1

_COLOURS: Final = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
#: The longest name of a process.
_WIDTH: Final = 24
#: Columns of the status where no terminal says how many it has.
_WIDE: Final = 200


def up(
    state_dir: StateDir = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all is ready; leave it running.")
    ] = False,
) -> None:
    """Start the servers and all processes, keep them running, stop them on Ctrl-C."""
    directory = directory_of(state_dir)
    if detach:
        stack = start_detached(directory)
        typer.echo(f"Everything is ready; the API is at {stack.api_url}")
        if stack.dashboard_url:
            typer.echo(f"Dashboard: {stack.dashboard_url}")
        typer.echo(f"An API key for development: {stack.api_key}")
        typer.echo("`slimtrack status` shows its processes, `slimtrack logs --follow` their log,")
        typer.echo("`slimtrack down` stops it.")
        return
    _warn_of_unknown(os.environ)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run_stack(
            directory,
            environment=os.environ,
            database=_Database(),
            audience=_Printer(),
        )
    except Interrupted:  # before anything had started
        return


def status(
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show each process: 0 = all ready, 1 = something is not, 3 = not running.

    Those of the stack; where none runs, those of the system whose DATABASE_URL is set, on whatever
    machines they are.
    """
    directory = directory_of(state_dir)
    stack = running_stack(directory)
    if not stack and variables_of(POSTGRESQL.url_variable, os.environ, secret=True):
        show_presence(Settings.from_environment(), as_json=as_json)
        return
    if as_json:
        processes = msgspec.to_builtins(stack.processes) if stack else []
        document = {
            "running": bool(stack),
            "ready": bool(stack and stack.is_ready),
            "state_dir": str(directory),
            "pid": stack.pid if stack else None,
            "api_url": stack.api_url if stack else None,
            "dashboard_url": stack.dashboard_url if stack else None,
            "processes": processes,
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(document)))
    elif stack:
        _print_status(stack)
    else:
        typer.echo(f"No stack is running in {directory}.")
    if not stack:
        raise typer.Exit(Exit.NOT_RUNNING)
    if not stack.is_ready:
        raise typer.Exit(Exit.AMISS)


def logs(
    process: Annotated[str | None, typer.Argument(help="Only this process.")] = None,
    state_dir: StateDir = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many of the last lines.")] = 50,
) -> None:
    """Show what the processes of the stack have written."""
    directory = directory_of(state_dir)
    printer = _Printer()
    for name, line in read_last(directory, process=process, count=lines):
        printer.line(name, line)
    if follow:
        try:
            for name, line in follow_log(directory, process=process):
                printer.line(name, line)
        except KeyboardInterrupt:
            raise typer.Exit from None


def down(state_dir: StateDir = None) -> None:
    """Stop the stack in order; what is under way is finished."""
    directory = directory_of(state_dir)
    if stop_stack(directory, on_stopped=lambda name: typer.echo(f"{name} stopped")):
        typer.echo("Everything has stopped.")
    else:
        typer.echo(f"No stack is running in {directory}.")


def stop_stack(directory: Path, *, on_stopped: Callable[[str], None] = lambda _: None) -> bool:
    """Stop the stack of a directory and wait for its end; False where none runs."""
    stack = running_stack(directory)
    if not stack:
        return False
    left = [each.name for each in reversed(stack.processes)]
    # Its end, not that of its lock: whoever is told that all has stopped may delete its files.
    process = os.pidfd_open(stack.pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        while not select.select([process], [], [], _INTERVAL)[0]:
            if stack := running_stack(directory):
                for each in stack.processes:
                    if each.phase is Phase.STOPPED and each.name in left:
                        left.remove(each.name)
                        on_stopped(each.name)
    finally:
        os.close(process)
    for name in left:
        on_stopped(name)
    return True


def start_detached(directory: Path, *, environment: Mapping[str, str] = os.environ) -> StackState:
    """Start a stack that outlives this command; return when it is ready.

    Raises:
        StackError: it did not start; its own words say why.
    """
    _warn_of_unknown(environment)
    state = StateDirectory.create(directory)
    errors = state.write("up.log", "")
    with errors.open("r+b") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-m", "slimtrack", "up", "--state-dir", str(directory)),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
    said = ""
    while process.poll() is None:
        stack = running_stack(directory)
        if stack and stack.pid == process.pid:
            if stack.is_ready:
                return stack
            if stack.doing != said:
                said = stack.doing
                typer.echo(said)
        time.sleep(_INTERVAL)
    raise StackError(errors.read_text("utf-8", "replace").strip() or "The stack did not start.")


class _Database:
    """Makes the database ready for the processes of the stack."""

    def migrate(self, environment: Mapping[str, str]) -> None:
        bootstrap.migrate(Settings.from_environment(environment))

    def let_in(self, environment: Mapping[str, str], passwords: Mapping[Role, str]) -> None:
        bootstrap.let_in(Settings.from_environment(environment), passwords)

    def admit(self, environment: Mapping[str, str], token: str) -> None:
        with bootstrap.open_access(Settings.from_environment(environment)) as access:
            access.store_key(
                token, tenant=DEFAULT_TENANT_NAME, name="development", scopes=list(Scope)
            )


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    for line in describe_unknown(environment):
        typer.secho(line, fg="yellow")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise Interrupted


def _print_status(stack: StackState) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("PROCESS", "STATE"):
        table.add_column(title, no_wrap=True)
    for title in ("PID", "RESTARTS", "FOR"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("ADDRESS", "METRICS"):
        table.add_column(title, overflow="fold")  # to be copied, however narrow the terminal is
    for each in stack.processes:
        colour = "green" if each.phase is Phase.READY else "yellow"
        table.add_row(
            each.name,
            Text(each.phase, style=colour),
            str(each.pid or ""),
            str(each.restarts),
            _duration(time.time() - each.since),
            each.address,
            each.metrics,
        )
    Console(soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE).print(table)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


class _Printer:
    """Prints lines with the process's name before them, in colour on a terminal."""

    def __init__(self) -> None:
        self._console = Console(soft_wrap=True, highlight=False)
        self._colours: dict[str, str] = {}

    def line(self, name: str, line: str) -> None:
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        self._console.print(Text(f"{name:<{_WIDTH}}| ", style=colour) + Text(line))

    def change(self, process: ProcessState) -> None:
        self.line(process.name, f"is {process.phase}")

    def report(self, text: str) -> None:
        self._console.print(text, style="bold", markup=False)

    def ready(self, stack: StackState) -> None:
        self.report(f"An API key for development: {stack.api_key}")
        if stack.dashboard_url:
            self.report(f"Dashboard: {stack.dashboard_url}")
        self.report(f"Everything is ready; the API is at {stack.api_url}. Ctrl-C stops it.")
