"""Messages as they go over the wire, AMQP 0-9-1."""

from typing import Final, Protocol

from pika import frame
from pika.spec import FRAME_END_SIZE, FRAME_HEADER_SIZE, Basic, BasicProperties

_PERSISTENT: Final = 2


class Outgoing(Protocol):
    """A message that can be published; ``mandatory`` if a queue has to take it."""

    @property
    def id(self) -> str: ...  # noqa: D102 - the class's docstring says it
    @property
    def exchange(self) -> str: ...  # noqa: D102
    @property
    def routing_key(self) -> str: ...  # noqa: D102
    @property
    def content_type(self) -> str: ...  # noqa: D102
    @property
    def mandatory(self) -> bool: ...  # noqa: D102

    def encode(self) -> bytes:
        """Return the body."""


def frames_of(message: Outgoing, *, channel_number: int, frame_max: int) -> list[bytes]:
    """Return the frames that publish a persistent message: the method, the header, the body."""
    body = message.encode()
    method = Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    properties = BasicProperties(
        delivery_mode=_PERSISTENT, message_id=message.id, content_type=message.content_type
    )
    longest = frame_max - FRAME_HEADER_SIZE - FRAME_END_SIZE
    return [
        frame.Method(channel_number, method).marshal(),
        frame.Header(channel_number, len(body), properties).marshal(),
        *(
            frame.Body(channel_number, body[start : start + longest]).marshal()
            for start in range(0, len(body), longest)
        ),
    ]
