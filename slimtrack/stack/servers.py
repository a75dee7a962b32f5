"""The servers that a stack needs: given by URL, or private to it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slimtrack.environment import variables_of
from slimtrack.stack import postgresql, rabbitmq, redis
from slimtrack.stack.directory import StateDirectory, free_ports
from slimtrack.stack.provision import POSTGRESQL, RABBITMQ, REDIS, Kind, provide
from slimtrack.stack.service import Service

_KINDS: Final = (POSTGRESQL, RABBITMQ, REDIS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Which servers to run, in this order, and where our own processes find all three."""

    services: tuple[Service, ...]
    environment: Mapping[str, str]
    #: Which of them are ours alone.
    private: Collection[Kind] = ()


def prepare_servers(
    directory: Path, *, environment: Mapping[str, str], report: Callable[[str], None]
) -> Servers:
    """Take the servers whose URLs are given; make the others ready to be started.

    Args:
        directory: where the private servers keep their data; the same data, passwords and
            node name again at the next start, other ports.
        environment: may give DATABASE_URL, AMQP_URL, REDIS_URL, or the file of each.
        report: is told, in a line each, what takes long.

    Raises:
        StackError: a server is missing, or the directory is of no use.
    """
    given = {kind: variables_of(kind.url_variable, environment, secret=True) for kind in _KINDS}
    urls = {name: text for variables in given.values() for name, text in variables.items()}
    wanted = [kind for kind, variables in given.items() if not variables]
    if not wanted:
        return Servers(services=(), environment=urls)
    state = StateDirectory.create(directory)
    programs = provide(wanted, environment=environment, report=report)
    ports = iter(free_ports(4))
    services: list[Service] = []
    if POSTGRESQL in programs:
        if not (state.path / "postgresql/data").exists():
            report("Making the database …")
        service, url = postgresql.prepare(state, programs[POSTGRESQL], port=next(ports))
        services.append(service)
        urls[POSTGRESQL.url_variable] = url
    if RABBITMQ in programs:
        service, url = rabbitmq.prepare(
            state, programs[RABBITMQ], port=next(ports), node_port=next(ports)
        )
        services.append(service)
        urls[RABBITMQ.url_variable] = url
    if REDIS in programs:
        service, url = redis.prepare(state, programs[REDIS], port=next(ports))
        services.append(service)
        urls[REDIS.url_variable] = url
    return Servers(services=tuple(services), environment=urls, private=tuple(programs))
