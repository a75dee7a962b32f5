"""The messages that RabbitMQ has put aside: rejected, undecodable, or for an unknown actor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pika

from slimtrack import faults
from slimtrack.broker.errors import BROKER_AWAY
from slimtrack.broker.messages import SetMessage
from slimtrack.broker.topology import dead_letter_queue, url_with_timeouts
from slimtrack.domain.errors import UnavailableError

#: Messages of one queue that one call takes, at most.
_LIMIT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedMessage:
    """A message from a ``.XQ`` queue; ``content`` is None where it is no message of ours."""

    queue_name: str
    body: bytes
    content: SetMessage | None


def drain_rejected(
    amqp_url: str, queue_names: Sequence[str], store: Callable[[RejectedMessage], object]
) -> int:
    """Hand every rejected message to ``store``; acknowledge it when that returns.

    A message whose ``store`` raises stays in the broker, as do those after it.

    Raises:
        UnavailableError: the broker does not answer.
    """
    drained = 0
    try:
        with pika.BlockingConnection(pika.URLParameters(url_with_timeouts(amqp_url))) as connection:
            channel = connection.channel()
            for queue_name in queue_names:
                for _ in range(_LIMIT):
                    method, _properties, body = channel.basic_get(dead_letter_queue(queue_name))
                    if method is None:
                        break
                    content = SetMessage.decode(body)
                    store(RejectedMessage(queue_name=queue_name, body=body, content=content))
                    faults.point("drain.after_store")
                    channel.basic_ack(method.delivery_tag)
                    drained += 1
    except BROKER_AWAY as error:
        raise UnavailableError(f"The broker does not answer: {error!r}") from error
    return drained
