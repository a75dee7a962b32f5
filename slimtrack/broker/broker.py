"""Dramatiq's broker for RabbitMQ, without the parts that can lose a message.

Checked against the source of Dramatiq 2.2.1; see docs/decisions/0004-own-broker-class.md.
"""

from typing import Any

from dramatiq import Message, Middleware
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from slimtrack.broker.consumer import GuardedConsumer
from slimtrack.broker.topology import (
    DEAD_LETTER_QUEUE_ARGUMENTS,
    dead_letter_queue,
    queue_arguments,
    url_with_timeouts,
)


class SlimBroker(RabbitmqBroker):
    """A broker whose delays are the outbox's and whose rejected messages never expire.

    It has no middleware but that given: Dramatiq's own ``Retries``, ``Pipelines`` and
    ``Callbacks`` publish from a hook that swallows errors, after which the original is acked.
    """

    def __init__(self, amqp_url: str, *, middleware: list[Middleware]) -> None:
        super().__init__(
            url=url_with_timeouts(amqp_url), confirm_delivery=True, middleware=middleware
        )

    @property
    def consumer_class(self) -> type[GuardedConsumer]:
        """The consumer that acknowledges only what it delivered itself."""
        return GuardedConsumer

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Publish a message at once.

        Raises:
            ValueError: a delay is asked for; nobody reads Dramatiq's delay queues here.
        """
        if delay is not None:
            raise ValueError("A delay belongs in the outbox row's available_at, not in a message.")
        return super().enqueue(message)

    def get_declared_delay_queues(self) -> set[str]:
        """Return nothing, so that workers open no consumer for delay queues."""
        return set()

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return queue_arguments(queue_name)

    def _declare_dq_queue(self, queue_name: str) -> None:
        """Declare no delay queue: it would stay empty."""

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(
            queue=dead_letter_queue(queue_name),
            durable=True,
            arguments=DEAD_LETTER_QUEUE_ARGUMENTS,
        )
