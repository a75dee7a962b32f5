"""Servers of one test's own, which it may kill, wipe and restart."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwnam

from system import WITHOUT_FAULTS

from slimtrack import bootstrap
from slimtrack.settings import Settings
from slimtrack.stack.servers import prepare_servers
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor


class Server:
    """One server, which starts again only when it is told to."""

    def __init__(self, service: Service, data: Path) -> None:
        self._service = service
        self._data = data
        self._supervisor = Supervisor(on_line=lambda *_: None)

    def start(self) -> None:
        if any(state.pid for state in self._supervisor.states):
            return
        self._supervisor = Supervisor(on_line=lambda *_: None)
        self._supervisor.start([self._service])

    def stop(self) -> None:
        self._supervisor.stop()

    def end(self, sig: signal.Signals) -> None:
        """End it by a signal of one's own choice, and wait."""
        if WITHOUT_FAULTS:
            return
        state = self._supervisor.states[0]
        assert state.pid, f"{state.name} does not run"
        os.kill(state.pid, sig)
        self._supervisor.stop()

    def wipe(self) -> None:
        """Delete everything that it has stored."""
        if WITHOUT_FAULTS:
            return
        found = list(self._data.iterdir())
        assert found, "there was nothing to delete"
        for each in found:
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    def rabbitmqctl(self, *arguments: str) -> None:
        """Command the broker, by a program that lies beside its own."""
        if WITHOUT_FAULTS:
            return
        program = Path(self._service.command[-4]).with_name("rabbitmqctl")
        port = self._service.env["RABBITMQ_DIST_PORT"]
        user = self._service.user
        subprocess.run(
            [program, "-q", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            env={
                **self._service.env,
                "RABBITMQ_CTL_ERL_ARGS": (
                    f"-start_epmd false -erl_epmd_port {port} -dist_listen false"
                ),
            },
            cwd="/",
            user=user,
            group=getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )


class Servers:
    """PostgreSQL, RabbitMQ and Redis, and where they are."""

    def __init__(self, folder: Path) -> None:
        prepared = prepare_servers(folder / "state", environment={}, report=print)
        by_name = {service.name: service for service in prepared.services}
        state = folder / "state"
        self.postgresql = Server(by_name["postgresql"], state / "postgresql/data")
        self.rabbitmq = Server(by_name["rabbitmq"], state / "rabbitmq/data")
        self.redis = Server(by_name["redis"], state / "redis")
        self.environment: Mapping[str, str] = {
            **os.environ,
            **prepared.environment,
            "SLIMTRACK_STAGE_DELAYS": "0",
            "SLIMTRACK_AUTH": "off",
            "SLIMTRACK_LOG_FORMAT": "json",
        }


@contextmanager
def private_servers() -> Iterator[Servers]:
    """Start servers with a migrated, empty database; stop them, whatever was done to them."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-faults-") as folder:
        Path(folder).chmod(0o755)
        servers = Servers(Path(folder))
        every = (servers.postgresql, servers.rabbitmq, servers.redis)
        try:
            for server in every:
                server.start()
            bootstrap.migrate(Settings.from_environment(servers.environment))
            yield servers
        finally:
            for server in every:
                server.stop()
