"""What travels: a Dramatiq message that names the outbox rows of one set, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from uuid import uuid4

from dramatiq import Message
from dramatiq.errors import DecodeError

#: What an outbox row's id can be.
_MOST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMessage:
    """A set of outbox rows on its way to an actor; made again from its rows at any time."""

    queue_name: str
    actor_name: str
    row_ids: Sequence[int]
    #: Whether the rows were published before.
    again: bool = False
    id: str = field(default_factory=lambda: str(uuid4()))

    #: To the default exchange, which knows queues by their names; somebody has to take it.
    exchange: ClassVar[str] = ""
    content_type: ClassVar[str] = "application/json"
    mandatory: ClassVar[bool] = True

    @property
    def routing_key(self) -> str:
        """The name of the queue."""
        return self.queue_name

    def encode(self) -> bytes:
        """Return the body as Dramatiq's workers read it."""
        message: Message[None] = Message(
            queue_name=self.queue_name,
            actor_name=self.actor_name,
            args=(list(self.row_ids),),
            kwargs={"again": True} if self.again else {},
            options={},
            message_id=self.id,
        )
        return message.encode()

    @classmethod
    def decode(cls, body: bytes) -> Self | None:
        """Read a body; None if it is no message of ours."""
        try:
            return cls.read(Message.decode(body))
        except DecodeError:
            return None

    @classmethod
    def read(cls, message: Any) -> Self | None:
        """Read a Dramatiq message; None if it is not exactly as ``encode`` makes them.

        Dramatiq checks no type, and options tell it what to do next: none is taken from outside.
        """
        if not (
            message.options == {}
            and message.kwargs in ({}, {"again": True})
            and isinstance(message.args, tuple)
            and len(message.args) == 1
            and isinstance(message.args[0], list)
            and all(type(each) is int and 0 < each <= _MOST_ID for each in message.args[0])
            and isinstance(message.queue_name, str)
            and isinstance(message.actor_name, str)
            and isinstance(message.message_id, str)
        ):
            return None
        return cls(
            queue_name=message.queue_name,
            actor_name=message.actor_name,
            row_ids=message.args[0],
            again=bool(message.kwargs),
            id=message.message_id,
        )
