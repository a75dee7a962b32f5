"""A consumer that trusts neither what it is sent nor what it is told to acknowledge."""

from typing import Any, Final

import structlog
from dramatiq import MessageProxy
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer

from slimtrack.broker.messages import SetMessage

_log: Final = structlog.get_logger()


class GuardedConsumer(_RabbitmqConsumer):
    """Takes only messages of ours, and settles only what it delivered itself.

    Delivery tags count from 1 on every channel. After a reconnect an actor that finishes late
    would acknowledge whichever message now bears its number; that one would be lost if
    the worker died before it ran. The broker delivers the old message again anyway.
    """

    def __next__(self) -> Any:
        """Return the next delivery, or None when there was none for a while."""
        message = super().__next__()
        if message is None:
            return None
        message.origin = self
        sound = SetMessage.read(message)
        if sound is None or sound.queue_name != self.queue_name:
            # Dramatiq trips over some such messages, again and again, and obeys others.
            _log.warning("delivery.rejected", queue=self.queue_name)
            self.nack(message)
            return None
        if message.redelivered:
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
