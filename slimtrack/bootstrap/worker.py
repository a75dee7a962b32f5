"""Puts the broker of a worker process together, with its actors and middleware."""

import atexit
import threading
from collections.abc import Collection, Sequence
from functools import partial
from pkgutil import resolve_name
from typing import Final, cast

from slimtrack.actors import stages
from slimtrack.bootstrap.errors import report_errors
from slimtrack.bootstrap.traces import record_traces
from slimtrack.bootstrap.tracking import create_tracking, schedule_of
from slimtrack.broker.broker import SlimBroker
from slimtrack.broker.lifecycle import Lifecycle
from slimtrack.broker.measuring import Measuring
from slimtrack.broker.retries import Retries
from slimtrack.broker.tracing import Tracing
from slimtrack.domain.errors import SettingsError
from slimtrack.domain.retry import Failure, RetryPolicy
from slimtrack.domain.work import StageWork
from slimtrack.process import notify_alive
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings
from slimtrack.sql.errors import is_infrastructure
from slimtrack.sql.pool import OUTBOX_PLANS, measure, open_pool
from slimtrack.sql.wakeup import WakeUp
from slimtrack.telemetry import errors, logs, tracing
from slimtrack.telemetry.scraping import serve_metrics
from slimtrack.use_cases.heartbeats import Heartbeat
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.working import Working

#: The order of the time-outs is explained beside the publisher's.
_SESSION: Final = {
    **OUTBOX_PLANS,
    "lock_timeout": "8s",
    "statement_timeout": "12s",
    "idle_in_transaction_session_timeout": "15s",
}
_POOL_TIMEOUT: Final = 5.0


def create_broker(settings: Settings) -> SlimBroker:
    """Build the broker of one Dramatiq worker process, with its actors; call it after the fork."""
    logs.configure(level=settings.log_level, form=settings.log_format)
    report_errors(settings)
    record_traces(settings, process="worker")
    works = {stage: _find_work(path) for stage, path in settings.stage_work.items()}
    pool = open_pool(
        settings.database_url,
        application_name="slimtrack worker",
        size=settings.worker_threads,
        options=_SESSION,
        timeout=_POOL_TIMEOUT,
        reconnect_timeout=_POOL_TIMEOUT,
    )
    atexit.register(pool.close)
    wake_up = WakeUp(settings.database_url).send
    tracking = create_tracking(settings, pool, wake_up=wake_up)
    retrying = Retrying(pool, wake_up=wake_up)

    def settle(queue_name: str, failures: Sequence[Failure], policy: RetryPolicy) -> None:
        retrying.settle(BY_QUEUE[queue_name].stage, failures, policy)

    heartbeat = Heartbeat(settings.database_url, kind="worker")

    def alive(queue_names: Collection[str]) -> None:
        notify_alive()
        heartbeat.beat(queue_names)

    def leave() -> None:
        heartbeat.close()
        errors.flush()

    if settings.metrics_bind:
        serve_metrics(settings.metrics_bind, measure=partial(measure, pool))
    measuring = [Measuring()] if settings.metrics_bind else []
    tracer = tracing.active()
    traced = [Tracing(tracer)] if tracer else []
    stopping = threading.Event()
    broker = SlimBroker(
        settings.amqp_url,
        middleware=[
            Lifecycle(alive, leave, stopping=stopping),
            *traced,
            Retries(settle, is_outage=is_infrastructure),
            *measuring,
        ],
    )
    policy = RetryPolicy(
        max_retries=settings.max_retries,
        min_backoff=settings.min_backoff,
        max_backoff=settings.max_backoff,
    )
    working = Working(
        pool,
        wake_up=wake_up,
        schedule=schedule_of(settings),
        fan_out=settings.events,
        works=works,
        time_limit=settings.work_time_limit,
    )
    stages.register(
        broker,
        tracking=tracking,
        working=working,
        retrying=retrying,
        policy=policy,
        stopping=stopping,
    )
    return broker


def _find_work(path: str) -> StageWork:
    try:
        work = resolve_name(path)
    except (ImportError, AttributeError) as error:
        raise SettingsError([f"SLIMTRACK_STAGE_WORK names {path}: {error}."]) from error
    if not callable(work):
        raise SettingsError([f"SLIMTRACK_STAGE_WORK names {path}, which cannot be called."])
    return cast("StageWork", work)
