"""Our own processes: their command lines, and how the stack starts them."""

import socket
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final

from slimtrack.domain.errors import StackError
from slimtrack.domain.order import JOURNEY, Status
from slimtrack.routing import BY_STAGE
from slimtrack.settings import Settings
from slimtrack.stack.directory import free_ports
from slimtrack.stack.service import Service

_USUAL_BIND: Final = "127.0.0.1:8080"
_WSGI_APP: Final = "slimtrack.wsgi:create_app()"
#: The queues of each group of workers: returns are too rare to need one of their own.
_GROUPS: Final = {stage: [BY_STAGE[stage].queue_name] for stage in JOURNEY}
_GROUPS[Status.DELIVERED].append(BY_STAGE[Status.RETURNED].queue_name)
#: Seconds that a running set has to finish; a thread that cannot store a failure sleeps 5 s.
_SHUTDOWN_TIMEOUT: Final = 10.0
#: Seconds without a sign of life after which a process is started again; as under systemd.
_WATCHDOG: Final = 30.0


def choose_bind(environment: Mapping[str, str]) -> str:
    """Return where the API shall listen: as set, or the usual port, or one that is free."""
    if given := environment.get("SLIMTRACK_API_BIND"):
        return given
    if _is_free(_USUAL_BIND):
        return _USUAL_BIND
    return f"{_USUAL_BIND.rpartition(':')[0]}:{free_ports(1)[0]}"


def url_of(bind: str) -> str:
    """Return the URL at which this machine reaches an address that a server listens on."""
    host, _, port = bind.rpartition(":")
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '*', '[::]'} else host}:{port}"  # noqa: S104 - compared


def api_command() -> tuple[str, ...]:
    """Return the command line of the API."""
    return _python("gunicorn", "--config", "python:slimtrack.http.server", _WSGI_APP)


def publisher_command() -> tuple[str, ...]:
    """Return the command line of a publisher."""
    return _python("slimtrack.publisher")


def worker_command(settings: Settings, *, queues: Sequence[str]) -> tuple[str, ...]:
    """Return the command line of a group of worker processes; no queues mean all."""
    return _python(
        "slimtrack.worker",
        "slimtrack.worker:setup",
        *("--processes", str(settings.worker_processes)),
        *("--threads", str(settings.worker_threads)),
        *("--worker-shutdown-timeout", str(int(1000 * _shutdown_timeout(settings)))),
        "--skip-logging",
        *(("--queues", *queues) if queues else ()),
    )


def _shutdown_timeout(settings: Settings) -> float:
    """Return the seconds from SIGTERM in which a running set, or a call outside, may end."""
    return _SHUTDOWN_TIMEOUT + (settings.work_time_limit if settings.stage_work else 0)


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return what Dramatiq reads from the environment when it is imported."""
    return {
        # Half a second, not three, before a lost connection is made again.
        "dramatiq_restart_delay": "500",
        # Two messages for each thread: each of them is a whole set.
        "dramatiq_queue_prefetch": str(2 * settings.worker_threads),
    }


def plan_publisher(environment: Mapping[str, str]) -> Service:
    """Return the publisher."""
    return Service(
        name="publisher",
        command=publisher_command(),
        ready=None,
        env=environment,
        watchdog=_WATCHDOG,
    )


def plan_workers(environment: Mapping[str, str]) -> list[Service]:
    """Return a process group for each queue."""
    settings = Settings.from_environment(environment)
    return [
        Service(
            name=f"worker-{stage}",
            command=worker_command(settings, queues=queues),
            ready=None,
            env={**environment, **worker_environment(settings)},
            stop_timeout=20 + _shutdown_timeout(settings),
            watchdog=_WATCHDOG,
        )
        for stage, queues in _GROUPS.items()
    ]


def plan_api(environment: Mapping[str, str], *, bind: str) -> Service:
    """Return the API; its health page says when it is ready."""
    url = url_of(bind)
    return Service(
        name="api",
        command=api_command(),
        ready=partial(_answers, f"{url}/health/live"),
        env={**environment, "SLIMTRACK_API_BIND": bind},
        address=url,
    )


def with_metrics(services: Sequence[Service], *, bind: str, api_bind: str) -> list[Service]:
    """Return services each of which has its metrics on a page of its own.

    The first at an address, the others at the ports that follow; what is taken is passed over.

    Raises:
        StackError: there are not enough ports.
    """
    host, _, first = bind.rpartition(":")
    binds = (f"{host}:{port}" for port in range(int(first), 65_536))
    free = (each for each in binds if each != api_bind and _is_free(each))
    chosen = list(islice(free, len(services)))
    if len(chosen) < len(services):
        raise StackError(
            f"SLIMTRACK_METRICS_BIND is {bind}, and not {len(services)} ports are free from there."
        )
    return [
        replace(
            service,
            env={**service.env, "SLIMTRACK_METRICS_BIND": each},
            metrics=f"{url_of(each)}/metrics",
        )
        for service, each in zip(services, chosen, strict=True)
    ]


def _is_free(bind: str) -> bool:
    host, _, port = bind.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError:
            return False
    return True


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - an http URL of ours
            return bool(answer.status == 200)
    except OSError:
        return False
