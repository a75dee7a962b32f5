"""A seeded nemesis: faults two at a time, under load, then the auditor's table."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from private import Servers, private_servers
from proxy import Proxy
from system import System

#: Orders a second while faults happen.
RATE = 20


class Nemesis:
    """Chooses faults by a seed; each starts at once and returns what ends it."""

    def __init__(
        self, seed: int, *, system: System, servers: Servers, amqp: Proxy, database: Proxy
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._system = system
        self._servers = servers
        self._proxies = (amqp, database)
        self._started = time.monotonic()
        self.happened: Counter[str] = Counter()
        self._faults: dict[str, Callable[[], Callable[[], None]]] = {
            "kill -9": self._kill,
            "pause": self._pause,
            "broker crashes": self._crash_broker,
            "broker forgets": self._wipe_broker,
            "database crashes": self._crash_database,
            "network refuses": self._refuse,
            "network cuts": self._cut,
            "answers are lost": self._lose_answers,
            "messages repeat": self._repeat,
        }

    def strike(self) -> None:
        """Let two faults happen at once, for a while, and end them.

        The first time the database crashes for sure, which no caller can miss.
        """
        chosen = self._random.sample(sorted(self._faults), 2)
        if not self.happened:
            chosen = ["database crashes", *(each for each in chosen if each != "database crashes")]
            del chosen[2:]
        if {"broker crashes", "broker forgets"} <= set(chosen):
            chosen.pop()
        print(f"{time.monotonic() - self._started:6.1f} s  {', '.join(chosen)}", flush=True)  # noqa: T201
        ends = [self._faults[name]() for name in chosen]
        self.happened.update(chosen)
        self._system.look_after(self._random.uniform(1, 6))
        for end in ends:
            end()
        self._system.look_after(self._random.uniform(0, 4))

    def _victim(self) -> str:
        return self._random.choice(sorted(self._system.running()))

    def _kill(self) -> Callable[[], None]:
        self._system.kill(self._victim(), signal.SIGKILL)
        return lambda: None

    def _pause(self) -> Callable[[], None]:
        paused = self._system.kill_all_of(self._victim(), signal.SIGSTOP)
        return lambda: self._system.signal(paused, signal.SIGCONT)

    def _crash_broker(self) -> Callable[[], None]:
        self._servers.rabbitmq.end(signal.SIGKILL)
        return self._servers.rabbitmq.start

    def _wipe_broker(self) -> Callable[[], None]:
        self._servers.rabbitmq.end(signal.SIGKILL)
        self._servers.rabbitmq.wipe()
        return self._servers.rabbitmq.start

    def _crash_database(self) -> Callable[[], None]:
        self._servers.postgresql.end(signal.SIGQUIT)
        return self._servers.postgresql.start

    def _refuse(self) -> Callable[[], None]:
        proxy = self._random.choice(self._proxies)
        proxy.refuse()
        return proxy.accept

    def _cut(self) -> Callable[[], None]:
        self._random.choice(self._proxies).cut()
        return lambda: None

    def _lose_answers(self) -> Callable[[], None]:
        """What is sent arrives, what is answered does not: COMMIT, confirm and ack alike."""
        proxy = self._random.choice(self._proxies)
        proxy.hold(answers_only=True)

        def end() -> None:
            proxy.cut()
            proxy.release()

        return end

    def _repeat(self) -> Callable[[], None]:
        """Make rows due again that are in flight, so that their messages come twice."""
        # The other fault may be in its way.
        with suppress(psycopg.OperationalError), self._system.connect() as connection:
            connection.execute("UPDATE outbox SET published_at = NULL")
        return lambda: None


@pytest.mark.timeout(0)  # as long as it was told, and then as long as it takes to settle
def test_whatever_the_nemesis_does_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    minutes: float = pytestconfig.getoption("nemesis")
    seed: int = pytestconfig.getoption("seed") or random.SystemRandom().randrange(1, 10**6)
    print(f"seed {seed}, {minutes:g} minutes")  # noqa: T201 - to repeat it with
    with ExitStack() as stack:
        servers = stack.enter_context(private_servers())
        amqp = stack.enter_context(Proxy(servers.environment["AMQP_URL"]))
        database = stack.enter_context(Proxy(servers.environment["DATABASE_URL"]))
        system = stack.enter_context(System(servers.environment, tmp_path))
        behind = {"DATABASE_URL": database.url, "AMQP_URL": amqp.url}
        more = {**behind, "SLIMTRACK_SET_SIZE": "10"}
        system.start(system.api(**behind))
        system.start(
            system.publisher("publisher-1", **more), system.publisher("publisher-2", **more)
        )
        system.start(system.worker("worker-1", **more), system.worker("worker-2", **more))
        load = system.load("nemesis", count=10**9, rate=RATE)
        nemesis = Nemesis(seed, system=system, servers=servers, amqp=amqp, database=database)
        deadline = time.monotonic() + 60 * minutes
        while time.monotonic() < deadline:
            nemesis.strike()
        load.stop()
        system.finish(load)
        findings = system.settle(timeout=170)
        restarts = sum(system.restarts().values())

        print(findings)  # noqa: T201
        print(f"{dict(nemesis.happened)}, {restarts} restarts")  # noqa: T201
        assert findings.is_clean, f"seed {seed}\n{findings}"
        assert findings.accepted == findings.delivered == load.placed
        assert nemesis.happened.total() >= minutes * 4
        assert findings.recovered, f"no request was disturbed; seed {seed}"
