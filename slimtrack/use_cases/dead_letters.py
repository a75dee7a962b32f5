"""The use cases of dead letters: look at them, replay them, put them away; each one transaction."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import structlog

from slimtrack.domain.dead_letter import (
    DeadLetter,
    DeadLetterGroup,
    DeadLetterPage,
    ReplayProgress,
    Selection,
)
from slimtrack.domain.errors import SlimTrackError
from slimtrack.domain.incident import Incident
from slimtrack.domain.operator_action import ActionName, OperatorAction, RecordedAction
from slimtrack.domain.order import Status
from slimtrack.sql import dead_letters, operator_actions, timeline, watching
from slimtrack.sql.connection import Connection
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, run, snapshot
from slimtrack.telemetry import errors, metrics

_log: Final = structlog.get_logger()

T = TypeVar("T")

#: Dead letters that one statement reads.
_PAGE: Final = 500
#: Dead letters that a page for people counts.
_MOST: Final = 20_000


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


class OperationReusedError(SlimTrackError):
    """Something else was carried out under the name of an operation; nothing has changed now."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"The operation {operation!r} was another one. Nothing is changed.")


class MessageRejectedError(SlimTrackError):
    """The broker has put aside a message of ours."""

    def __init__(self, actor_name: str) -> None:
        super().__init__(f"No worker took the message: is there an actor {actor_name}?")


class MessageUnreadableError(SlimTrackError):
    """The broker has put aside what is no message of ours."""

    def __init__(self) -> None:
        super().__init__("The message is not one of SlimTrack's.")


class DeadLetters:
    """Everything that can be done with dead letters, for any front end.

    Whatever is asked by people raises ``UnavailableError`` where the database does not answer. What
    they do may have been done nevertheless, unless it was an operation with a name: repeated, it
    is done once.

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
        return self._run(
            lambda connection: len(dead_letters.find_dead_letters(connection, selection))
        )

    def count_rows(self, selection: Selection) -> int:
        """Return how many of those that are meant could be replayed now."""

        def find(connection: Connection) -> int:
            ids = dead_letters.find_dead_letters(connection, selection)
            return dead_letters.count_rows(connection, ids)

        return self._run(find)

    def read(self, selection: Selection, *, limit: int | None = None) -> Iterator[DeadLetter]:
        """Yield what is meant, oldest first, a page at a time in bounded memory."""
        after, left = 0, limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            ids, letters = self._run(
                partial(_read_page, selection=selection, after=after, limit=size)
            )
            yield from letters
            if len(ids) < size:
                return
            after = ids[-1]
            left = None if left is None else left - size

    def look(self, selection: Selection, *, before: int | None, size: int) -> DeadLetterPage:
        """Return a page of what is meant, the latest first, and its groups, all of one moment.

        Counts, and groups, some ten thousands, at most.
        """

        def look(connection: Connection) -> DeadLetterPage:
            with snapshot(connection):
                found = dead_letters.find_dead_letters(connection, selection, limit=_MOST + 1)
                ids = found[:_MOST]
                groups = dead_letters.group_dead_letters(connection, ids)
                rest = [each for each in reversed(ids) if before is None or each < before]
                letters = dead_letters.get_dead_letters(connection, rest[:size])
            return DeadLetterPage(
                letters=letters[::-1],
                groups=groups,
                count=len(ids),
                is_more=len(found) > _MOST,
                last=ids[-1] if ids else None,
                next_before=rest[size - 1] if len(rest) > size else None,
            )

        return self._run(look)

    def find_action(self, operation: str) -> tuple[RecordedAction, ReplayProgress | None] | None:
        """Return what was done under a name and, for a replay, what became of its rows."""

        def find(
            connection: Connection,
        ) -> tuple[RecordedAction, ReplayProgress | None] | None:
            action = operator_actions.get_action(connection, operation)
            if action is None:
                return None
            if action.action != ActionName.REPLAY:
                return action, None
            with snapshot(connection):
                watching.prefer_indexes(connection)
                return action, dead_letters.measure_replay(connection, acted_at=action.acted_at)

        return self._run(find)

    def groups(self, selection: Selection) -> Sequence[DeadLetterGroup]:
        """Return the groups of one cause, the largest first."""

        def find(connection: Connection) -> Sequence[DeadLetterGroup]:
            ids = dead_letters.find_dead_letters(connection, selection)
            return dead_letters.group_dead_letters(connection, ids)

        return self._run(find)

    def get(self, letter_id: int) -> DeadLetter:
        """Return one.

        Raises:
            DeadLetterNotFoundError: there is none of this id.
        """
        found = self._run(lambda connection: dead_letters.get_dead_letters(connection, [letter_id]))
        if not found:
            raise DeadLetterNotFoundError(letter_id)
        return found[0]

    def incidents(self, letter: DeadLetter) -> Sequence[Incident]:
        """Return what has happened to a row, the latest first; nothing for a message."""
        order_id = letter.order_id
        if order_id is None:
            return ()
        found = self._run(lambda connection: timeline.list_incidents(connection, [order_id]))
        return [
            each
            for each in reversed(found.get(order_id, ()))
            if (each.stage, each.from_sequence) == (letter.stage, letter.from_sequence)
        ]

    def replay(
        self, selection: Selection, *, action: OperatorAction, rate: float | None = None
    ) -> int:
        """Move rows back into the outbox, all due now or ``rate`` of them a second.

        Messages that name no row stay where they are. Returns the number of rows.

        Raises:
            OperationRepeatedError: the operation was carried out before.
            OperationReusedError: it was another one.
        """

        def move(connection: Connection) -> int:
            ids = dead_letters.find_dead_letters(connection, selection)
            return dead_letters.replay_dead_letters(
                connection, ids, discarded=selection.discarded, rate=rate, action=action
            )

        replayed = self._act(ActionName.REPLAY, selection, action, move)
        self._wake_up()
        return replayed

    def edit(self, letter_id: int, *, payload: dict[str, Any], action: OperatorAction) -> int:
        """Replace the payload of a row, which its stage's work is handed when it is replayed.

        Returns 1, or 0 where somebody has moved the row meanwhile.

        Raises:
            DeadLetterNotFoundError: there is none of this id.
            NotARowError: it is a message.
            OperationRepeatedError: the operation was carried out before.
            OperationReusedError: it was another one, or had another payload.
        """
        digest = hashlib.sha256(msgspec.json.encode(payload, order="sorted")).hexdigest()
        edited = {"ids": [letter_id], "payload_sha256": digest}
        known = action.operation and self.find_action(action.operation)
        if known:  # the row may have been replayed since
            raise _repeat_of(known[0], ActionName.EDIT, edited)
        if self.get(letter_id).body is not None:
            raise NotARowError(letter_id)

        def change(connection: Connection) -> int:
            return int(
                dead_letters.edit_dead_letter(connection, letter_id, payload=payload, action=action)
            )

        return self._act(ActionName.EDIT, edited, action, change)

    def discard(self, selection: Selection, *, action: OperatorAction) -> int:
        """Put dead letters away for good; they still account for their orders.

        Raises:
            OperationRepeatedError: the operation was carried out before.
            OperationReusedError: it was another one.
        """

        def put_away(connection: Connection) -> int:
            ids = dead_letters.find_dead_letters(connection, selection)
            return dead_letters.discard_dead_letters(connection, ids, action=action)

        return self._act(ActionName.DISCARD, selection, action, put_away)

    def store_rejected(
        self, ids: Sequence[int], *, stage: Status, actor_name: str, queue_name: str
    ) -> int:
        """Give up the rows of a message that the broker has put aside; return how many."""
        error = MessageRejectedError(actor_name)
        fingerprint = f"rejected:{actor_name}"[:64]
        with self._pool.connection() as connection:
            stored = dead_letters.store_rejected_rows(
                connection,
                ids,
                stage=stage,
                actor_name=actor_name,
                queue_name=queue_name,
                error_type=type(error).__qualname__,
                error=str(error),
                fingerprint=fingerprint,
            )
        metrics.DEAD_LETTERS.labels(stage, type(error).__qualname__).inc(len(stored))
        for each in stored:
            _log.error(
                "dead_letter.stored",
                order_id=str(each.order_id),
                correlation_id=each.correlation_id,
                stage=stage,
                attempt=each.attempts,
                dead_letter=each.id,
                error=str(error),
            )
        errors.report_dead_letters(error, stored, stage=stage, fingerprint=fingerprint)
        return len(stored)

    def store_message(self, body: bytes, *, queue_name: str) -> bool:
        """Keep a message that names no row of ours; False if the same one is kept already."""
        error = MessageUnreadableError()
        fingerprint = "unreadable"
        with self._pool.connection() as connection:
            stored = dead_letters.store_message(
                connection,
                body,
                queue_name=queue_name,
                error_type=type(error).__qualname__,
                error=str(error),
                fingerprint=fingerprint,
            )
        if stored:
            _log.error("dead_letter.stored", queue=queue_name, bytes=len(body), error=str(error))
            metrics.DEAD_LETTERS.labels("", type(error).__qualname__).inc()
            errors.report(error, fingerprint=fingerprint, queue=queue_name)
        return stored

    def _act(
        self,
        name: ActionName,
        meant: Selection | Mapping[str, object],
        action: OperatorAction,
        work: Callable[[Connection], int],
    ) -> int:
        has_worked = False

        def act(connection: Connection) -> int:
            nonlocal has_worked
            with connection.transaction():
                affected = work(connection)
                has_worked = True
                if not operator_actions.record_action(
                    connection, action, name=name, selection=meant, affected=affected
                ):
                    known = operator_actions.get_action(connection, action.operation or "")
                    assert known  # noqa: S101 - nobody takes one away
                    raise _repeat_of(known, name, meant)
            return affected

        affected = self._run(act, repeatable=lambda: not has_worked)
        _log.info(f"dead_letters.{name}", affected=affected, operator=action.operator)
        return affected

    def _run(
        self,
        work: Callable[[Connection], T],
        *,
        repeatable: Callable[[], bool] = lambda: True,
    ) -> T:
        with unavailable_if_away():
            return run(self._pool, work, repeatable=repeatable)


def _read_page(
    connection: Connection, *, selection: Selection, after: int, limit: int
) -> tuple[list[int], list[DeadLetter]]:
    ids = dead_letters.find_dead_letters(connection, selection, after=after, limit=limit)
    return ids, dead_letters.get_dead_letters(connection, ids)


def _as_recorded(meant: Selection | Mapping[str, object]) -> object:
    return msgspec.json.decode(msgspec.json.encode(meant))


def _repeat_of(
    known: RecordedAction, name: ActionName, meant: Selection | Mapping[str, object]
) -> SlimTrackError:
    """Return what is wrong with an operation of a name that is known."""
    is_same = (known.action, known.selection) == (name, _as_recorded(meant))
    error = OperationRepeatedError if is_same else OperationReusedError
    return error(known.operation or "")
