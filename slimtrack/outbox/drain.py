"""The drain: what the broker has put aside becomes dead letters in the database."""

from typing import Final

import structlog

from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.broker.rejected import RejectedMessage, drain_rejected
from slimtrack.broker.topology import dead_letter_queue
from slimtrack.domain.errors import UnavailableError
from slimtrack.outbox.outages import tolerated
from slimtrack.routing import BY_QUEUE
from slimtrack.use_cases.dead_letters import DeadLetters

_log: Final = structlog.get_logger()

#: Seconds that the broker has to count its messages.
_COUNT_TIMEOUT: Final = 2.0


class Drain:
    """Moves rejected messages from the broker into ``dead_letters``; any number of copies may run.

    Args:
        dead_letters: where they go.
        broker: knows how many there are.
        amqp_url: where to take them from, over a connection of its own.
    """

    def __init__(
        self, dead_letters: DeadLetters, *, broker: ConfirmedPublisher, amqp_url: str
    ) -> None:
        self._dead_letters = dead_letters
        self._broker = broker
        self._amqp_url = amqp_url

    def drain(self) -> int:
        """Take what there is; return how many messages. Each is acknowledged once it is stored."""
        counts = self._broker.count_messages(timeout=_COUNT_TIMEOUT) or {}
        queue_names = [each for each in BY_QUEUE if counts.get(dead_letter_queue(each))]
        if not queue_names:
            return 0
        with tolerated():
            try:
                return drain_rejected(self._amqp_url, queue_names, self._store)
            except UnavailableError as error:
                _log.warning("broker.unreachable", error=str(error))
        return 0

    def _store(self, message: RejectedMessage) -> None:
        if message.content is None:
            self._dead_letters.store_message(message.body, queue_name=message.queue_name)
        else:
            self._dead_letters.store_rejected(
                message.content.row_ids,
                stage=BY_QUEUE[message.queue_name].stage,
                actor_name=message.content.actor_name,
                queue_name=message.queue_name,
            )
