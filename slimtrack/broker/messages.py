"""What travels: a Dramatiq message that names the outbox rows of one set, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from dramatiq import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMessage:
    """A set of outbox rows on its way to an actor; made again from its rows at any time."""

    queue_name: str
    actor_name: str
    row_ids: Sequence[int]
    #: Whether the rows were published before.
    again: bool = False
    id: str = field(default_factory=lambda: str(uuid4()))

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
