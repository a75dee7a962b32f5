"""Records the messages that actors are handed."""

from typing import Any

from dramatiq import Broker, MessageProxy, Middleware, Worker

from slimtrack.telemetry.tracing import Tracer


class Tracing(Middleware):
    """Records each message of which a row is traced.

    Has to stand before ``Retries``: hooks after a message run in reverse, and what failed has to be
    settled when it ends.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin."""
        del broker
        self._tracer.begin_set(queue_name=message.queue_name, rows=len(message.args[0]))

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """End."""
        del broker, message, result, exception
        self._tracer.end_set()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Send what is left: a worker process ends without what Python does at an exit."""
        del broker, worker
        self._tracer.flush()
