"""Puts the publisher together."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Final

from slimtrack.bootstrap.commands import open_auditing
from slimtrack.bootstrap.errors import report_errors
from slimtrack.bootstrap.traces import record_traces
from slimtrack.bootstrap.tracking import deadlines
from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.broker.topology import EVENT_EXCHANGE
from slimtrack.outbox import running
from slimtrack.outbox.drain import Drain
from slimtrack.outbox.fan_out import FanOut, publish_left
from slimtrack.outbox.gauges import Gauges
from slimtrack.outbox.partitions import Partitions
from slimtrack.outbox.pruning import Pruning
from slimtrack.outbox.publisher import PUBLISHER_SESSION, Publisher
from slimtrack.outbox.reconciler import Reconciler
from slimtrack.outbox.samples import Samples
from slimtrack.process import notify_alive
from slimtrack.routing import BY_STAGE
from slimtrack.settings import Settings
from slimtrack.sql.pool import OUTBOX_PLANS, Pool, measure, open_pool
from slimtrack.sql.wakeup import listen
from slimtrack.telemetry import logs
from slimtrack.telemetry.scraping import serve_metrics
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.heartbeats import Heartbeat

_POOL_TIMEOUT: Final = 5.0
#: Seconds between two looks at what was lost or rejected, at what is late, and at every order.
_RECONCILE: Final = 5.0
_WATCH: Final = 60.0
_SEARCH: Final = 3_600.0
#: Seconds between two looks at what waits.
_MEASURE: Final = 5.0
#: Seconds between two samples of how the system fares.
_SAMPLE: Final = 10.0
#: Threads that publish events: while one waits for the broker, another asks the database.
_FAN_OUTS: Final = 2
#: Seconds between two looks at what is too old to be kept.
_PRUNE: Final = 300.0
#: Seconds between two looks whether the partitions of the months ahead are there.
_PARTITIONS: Final = 3_600.0


def run_publisher(settings: Settings, stopping: threading.Event) -> None:
    """Publish the outbox until ``stopping`` is set.

    Raises:
        ThreadEndedError: the publishing thread ended by itself.
    """
    logs.configure(level=settings.log_level, form=settings.log_format)
    report_errors(settings)
    record_traces(settings, process="publisher")
    wanted = threading.Event()
    with (
        open_pool(
            settings.database_url,
            application_name="slimtrack publisher",
            size=3 + _FAN_OUTS,
            options={**OUTBOX_PLANS, **PUBLISHER_SESSION},
            timeout=_POOL_TIMEOUT,
            reconnect_timeout=_POOL_TIMEOUT,
        ) as pool,
        closing(
            ConfirmedPublisher(
                settings.amqp_url,
                queue_names=[route.queue_name for route in BY_STAGE.values()],
                on_ready=wanted.set,
            )
        ) as broker,
        _fan_outs(settings, pool) as fan_outs,
        closing(Heartbeat(settings.database_url, kind="publisher")) as heartbeat,
    ):
        if settings.metrics_bind:
            serve_metrics(settings.metrics_bind, measure=partial(measure, pool))
        publisher = Publisher(
            pool,
            broker=broker,
            wanted=wanted,
            stage_bound=settings.stage_bound,
            set_size=settings.set_size,
            single=settings.stage_work.keys(),
        )
        dead_letters = DeadLetters(pool, wake_up=publisher.wake_up)
        publishers: dict[str, running.PublishingThread] = {"publisher": publisher}
        auditing, samples = Auditing(pool, deadlines=deadlines(settings)), Samples(pool)

        def watch() -> None:
            samples.stuck = auditing.watch()

        jobs: list[tuple[Callable[[], object], float]] = [
            (Reconciler(pool, broker=broker).reconcile, _RECONCILE),
            (Drain(dead_letters, broker=broker, amqp_url=settings.amqp_url).drain, _RECONCILE),
            (watch, _WATCH),
            (samples.take, _SAMPLE),
            (partial(_search, settings), _SEARCH),
            (Pruning(pool, answer_lifetime=settings.answer_lifetime).prune, _PRUNE),
            (Partitions(pool).make_ahead, _PARTITIONS),
        ]
        if settings.metrics_bind:
            jobs.append((Gauges(pool).measure, _MEASURE))
        publishers |= {f"fan-out {number}": each for number, each in enumerate(fan_outs, 1)}
        if not fan_outs:
            # Switched off while rows were left, or on in other processes: nothing waits for ever.
            left = partial(
                publish_left,
                pool,
                broker=broker,
                open_broker=partial(_open_event_broker, settings),
            )
            jobs.append((left, _RECONCILE))

        def alive() -> None:
            notify_alive()
            heartbeat.beat()

        heartbeat.beat()
        running.run(
            publishers,
            jobs=jobs,
            listen=partial(listen, settings.database_url),
            stopping=stopping,
            alive=alive,
        )


@contextmanager
def _fan_outs(settings: Settings, pool: Pool) -> Iterator[list[FanOut]]:
    """Make what publishes events; nothing where they are off.

    On a connection of their own: a subscriber's queue that takes nothing must not hold up orders.
    """
    if not settings.events:
        yield []
        return
    wanted = [threading.Event() for _ in range(_FAN_OUTS)]

    def wake_up() -> None:
        for each in wanted:
            each.set()

    with closing(_open_event_broker(settings, wake_up)) as broker:
        yield [FanOut(pool, broker=broker, wanted=each) for each in wanted]


def _open_event_broker(settings: Settings, on_ready: Callable[[], None]) -> ConfirmedPublisher:
    return ConfirmedPublisher(settings.amqp_url, exchange=EVENT_EXCHANGE, on_ready=on_ready)


def _search(settings: Settings) -> None:
    """Look at every order, which the time-outs and plans of the publisher's own pool forbid."""
    with open_auditing(settings) as auditing:
        auditing.find_stranded()
