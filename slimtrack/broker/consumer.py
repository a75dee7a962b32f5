"""A consumer that acknowledges only what it delivered itself."""

from typing import Any, Final

import structlog
from dramatiq import MessageProxy
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer

_log: Final = structlog.get_logger()


class GuardedConsumer(_RabbitmqConsumer):
    """Refuses to settle deliveries of an earlier connection.

    Delivery tags count from 1 on every channel. After a reconnect an actor that finishes late
    would acknowledge whichever message now bears its number; that one would be lost if
    the worker died before it ran. The broker delivers the old message again anyway.
    """

    def __next__(self) -> Any:
        """Return the next delivery, or None when there was none for a while."""
        message = super().__next__()
        if message is not None:
            message.origin = self
            if message.redelivered and isinstance(message.kwargs, dict):
                # One of its rows may be what ended the process that had it before.
                message.kwargs["again"] = True
        return message

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a delivery of this consumer."""
        if self._delivered(message):
            super().ack(message)

    def nack(self, message: MessageProxy) -> None:
        """Reject a delivery of this consumer into the dead-letter queue."""
        if self._delivered(message):
            super().nack(message)

    def _delivered(self, message: MessageProxy) -> bool:
        if getattr(message, "origin", None) is self:
            return True
        _log.warning("delivery.outlived", message_id=message.message_id)
        return False
