"""The use cases of dead letters: look at them, replay them, put them away; each one transaction."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import structlog

from slimtrack.domain.dead_letter import DeadLetter, DeadLetterGroup, OperatorAction, Selection
from slimtrack.domain.errors import SlimTrackError
from slimtrack.domain.order import Status
from slimtrack.sql import dead_letters
from slimtrack.sql.pool import Pool

_log: Final = structlog.get_logger()

#: Dead letters that one statement reads.
_PAGE: Final = 500


class DeadLetterNotFoundError(SlimTrackError):
    """There is no dead letter of this id."""

    def __init__(self, letter_id: int) -> None:
        super().__init__(f"There is no dead letter {letter_id}.")


class NotARowError(SlimTrackError):
    """What is asked can be done with an outbox row only, and this dead letter is a message."""

    def __init__(self, letter_id: int) -> None:
        super().__init__(
            f"Dead letter {letter_id} is a message that names no row: it can be shown, exported "
            "and discarded, nothing else."
        )


class OperationRepeatedError(SlimTrackError):
    """An operation of this name was carried out before; nothing has changed now."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"The operation {operation!r} was carried out before. Nothing is changed.")


class DeadLetters:
    """Everything that can be done with dead letters, for any front end.

    Every method raises ``psycopg.Error`` where the database does not answer, and then has changed
    nothing.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        wake_up: tells the publisher that rows may be due.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        wake_up: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._wake_up = wake_up

    def count(self, selection: Selection) -> int:
        """Return how many are meant."""
        with self._pool.connection() as connection:
            return len(dead_letters.find_dead_letters(connection, selection))

    def count_rows(self, selection: Selection) -> int:
        """Return how many of those that are meant could be replayed now."""
        with self._pool.connection() as connection:
            ids = dead_letters.find_dead_letters(connection, selection)
            return dead_letters.count_rows(connection, ids)

    def read(self, selection: Selection, *, limit: int | None = None) -> Iterator[DeadLetter]:
        """Yield what is meant, oldest first, a page at a time in bounded memory."""
        after, left = 0, limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            with self._pool.connection() as connection:
                ids = dead_letters.find_dead_letters(connection, selection, after=after, limit=size)
                letters = dead_letters.get_dead_letters(connection, ids)
            yield from letters
            if len(ids) < size:
                return
            after = ids[-1]
            left = None if left is None else left - size

    def groups(self, selection: Selection) -> Sequence[DeadLetterGroup]:
        """Return the groups of one cause, the largest first."""
        with self._pool.connection() as connection:
            ids = dead_letters.find_dead_letters(connection, selection)
            return dead_letters.group_dead_letters(connection, ids)

    def get(self, letter_id: int) -> DeadLetter:
        """Return one.

        Raises:
            DeadLetterNotFoundError: there is none of this id.
        """
        with self._pool.connection() as connection:
            found = dead_letters.get_dead_letters(connection, [letter_id])
        if not found:
            raise DeadLetterNotFoundError(letter_id)
        return found[0]

    def replay(
        self, selection: Selection, *, action: OperatorAction, rate: float | None = None
    ) -> int:
        """Move rows back into the outbox, all due now or ``rate`` of them a second.

        Messages that name no row stay where they are. Returns the number of rows.

        Raises:
            OperationRepeatedError: the operation was carried out before.
        """

        def move(connection: dead_letters.Connection, ids: Sequence[int]) -> int:
            return dead_letters.replay_dead_letters(connection, ids, rate=rate)

        replayed = self._act("replay", selection, action, move)
        self._wake_up()
        return replayed

    def edit(self, letter_id: int, *, payload: dict[str, Any], action: OperatorAction) -> int:
        """Replace the payload of a row, which its stage's work is handed when it is replayed.

        Returns 1, or 0 where somebody has moved the row meanwhile.

        Raises:
            DeadLetterNotFoundError: there is none of this id.
            NotARowError: it is a message.
            OperationRepeatedError: the operation was carried out before.
        """
        letter = self.get(letter_id)
        if letter.body is not None:
            raise NotARowError(letter_id)

        def change(connection: dead_letters.Connection, ids: Sequence[int]) -> int:
            return sum(
                dead_letters.edit_dead_letter(connection, each, payload=payload) for each in ids
            )

        discarded = letter.discarded_at is not None
        return self._act("edit", Selection(ids=(letter_id,), discarded=discarded), action, change)

    def discard(self, selection: Selection, *, action: OperatorAction) -> int:
        """Put dead letters away for good; they still account for their orders.

        Raises:
            OperationRepeatedError: the operation was carried out before.
        """

        def put_away(connection: dead_letters.Connection, ids: Sequence[int]) -> int:
            return dead_letters.discard_dead_letters(connection, ids, reason=action.reason)

        return self._act("discard", selection, action, put_away)

    def store_rejected(
        self, ids: Sequence[int], *, stage: Status, actor_name: str, queue_name: str
    ) -> int:
        """Give up the rows of a message that the broker has put aside; return how many."""
        with self._pool.connection() as connection:
            stored = dead_letters.store_rejected_rows(
                connection,
                ids,
                stage=stage,
                actor_name=actor_name,
                queue_name=queue_name,
                error_type="MessageRejected",
                error=f"No worker took the message: is there an actor {actor_name}?",
                fingerprint=f"rejected:{actor_name}"[:64],
            )
        _log.error("dead_letter.stored", queue=queue_name, actor=actor_name, rows=stored)
        return stored

    def store_message(self, body: bytes, *, queue_name: str) -> bool:
        """Keep a message that names no row of ours; False if the same one is kept already."""
        with self._pool.connection() as connection:
            stored = dead_letters.store_message(
                connection,
                body,
                queue_name=queue_name,
                error_type="UnreadableMessage",
                error="The message is not one of SlimTrack's.",
                fingerprint="unreadable",
            )
        _log.error("dead_letter.stored", queue=queue_name, bytes=len(body))
        return stored

    def _act(
        self,
        name: str,
        selection: Selection,
        action: OperatorAction,
        work: Callable[[dead_letters.Connection, Sequence[int]], int],
    ) -> int:
        with self._pool.connection() as connection, connection.transaction():
            affected = work(connection, dead_letters.find_dead_letters(connection, selection))
            if not dead_letters.record_action(
                connection, action, name=name, selection=selection, affected=affected
            ):
                raise OperationRepeatedError(action.operation or "")
        _log.info(f"dead_letters.{name}", affected=affected, operator=action.operator)
        return affected
