"""Our own processes, as the stack starts them."""

import socket
import sys
import urllib.request
from collections.abc import Mapping
from functools import partial
from typing import Final

from slimtrack.routing import BY_STAGE
from slimtrack.stack.directory import free_ports
from slimtrack.stack.service import Service

_USUAL_BIND: Final = "127.0.0.1:8080"


def choose_bind(environment: Mapping[str, str]) -> str:
    """Return where the API shall listen: as set, or the usual port, or one that is free."""
    if given := environment.get("SLIMTRACK_API_BIND"):
        return given
    host, _, port = _USUAL_BIND.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return f"{host}:{free_ports(1)[0]}"
    return _USUAL_BIND


def url_of(bind: str) -> str:
    """Return the URL at which this machine reaches an address that a server listens on."""
    host, _, port = bind.rpartition(":")
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '*', '[::]'} else host}:{port}"  # noqa: S104 - compared


def plan_workers(environment: Mapping[str, str]) -> list[Service]:
    """Return the publisher and a process group for each queue."""
    workers = {
        f"worker-{stage}": ("worker", "--queues", route.queue_name)
        for stage, route in BY_STAGE.items()
    }
    commands = {"publisher": ("publisher",), **workers}
    return [
        Service(
            name=name,
            command=(sys.executable, "-m", "slimtrack", *command),
            ready=None,
            env=environment,
        )
        for name, command in commands.items()
    ]


def plan_api(environment: Mapping[str, str], *, bind: str) -> Service:
    """Return the API; its health page says when it is ready."""
    url = url_of(bind)
    return Service(
        name="api",
        command=(sys.executable, "-m", "slimtrack", "api"),
        ready=partial(_answers, f"{url}/health/live"),
        env={**environment, "SLIMTRACK_API_BIND": bind},
        address=url,
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - an http URL of ours
            return bool(answer.status == 200)
    except OSError:
        return False
