"""Retries through the outbox: failed rows are made due again before their message is acked."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from dramatiq import Broker, MessageProxy, Middleware
from dramatiq.errors import ConnectionError as BrokerConnectionError
from dramatiq.middleware import MiddlewareError

from slimtrack.domain.retry import Failure, RetryPolicy, SetFailedError
from slimtrack.telemetry import errors

_log: Final = structlog.get_logger()

#: Makes failed rows of a queue due again, or dead letters.
Settle = Callable[[str, Sequence[Failure], RetryPolicy], None]


class StoreUnavailableError(MiddlewareError, BrokerConnectionError):
    """The failure could not be stored.

    Dramatiq lets a ``MiddlewareError`` out of a hook, and after a connection error it calls the
    hook again every 5 s, the message unacknowledged all the while.
    """


class Retries(Middleware):
    """Settles the rows of a failed message in the database, then lets it be acked.

    Takes Dramatiq's options ``max_retries``, ``min_backoff`` and ``max_backoff`` (milliseconds),
    ``throws`` and ``retry_when`` from the actor alone: what a message says about itself is not
    trusted.

    Args:
        settle: stores the failures; see ``Settle``.
        is_outage: whether an error of ``settle`` says that the database is away.
    """

    def __init__(self, settle: Settle, *, is_outage: Callable[[BaseException], bool]) -> None:
        self._settle = settle
        self._is_outage = is_outage
        # A worker thread processes a message and acks it before it takes the next.
        self._thread = threading.local()

    @property
    def actor_options(self) -> set[str]:
        """The options that an actor may be given."""
        return {"max_retries", "min_backoff", "max_backoff", "throws", "retry_when"}

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Settle what failed; if the database is away, ``before_ack`` goes on trying."""
        del result
        if exception is None:
            return
        failures = (
            exception.failures
            if isinstance(exception, SetFailedError)
            else [Failure(ids=message.args[0], error=exception)]
        )
        self._thread.unsettled = failures
        try:
            self._settle_message(broker, message, failures)
        except StoreUnavailableError as error:
            _log.warning("failure.unsettled", message_id=message.message_id, error=str(error))

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Hold the acknowledgement back until the failure is stored."""
        failures = getattr(self._thread, "unsettled", None)
        if failures:
            self._settle_message(broker, message, failures)

    def _settle_message(
        self, broker: Broker, message: MessageProxy, failures: Sequence[Failure]
    ) -> None:
        options = broker.get_actor(message.actor_name).options
        policy = RetryPolicy(
            max_retries=options["max_retries"],
            min_backoff=options["min_backoff"] / 1000,
            max_backoff=options["max_backoff"] / 1000,
            throws=options["throws"],
            retry_when=options["retry_when"],
        )
        try:
            self._settle(message.queue_name, failures, policy)
        except Exception as error:
            if self._is_outage(error):
                raise StoreUnavailableError(str(error)) from error
            # Holding this message for ever would hold a thread with it. Its rows are safe:
            # they count as lost when their time is up, and are published again.
            _log.exception("failure.unsettled", message_id=message.message_id)
            errors.report(error, queue=message.queue_name)
        self._thread.unsettled = None
