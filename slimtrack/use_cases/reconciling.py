"""The use cases of queues: what waits where, what is stuck, and what was lost on its way."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from slimtrack.broker.probes import QueueDepth
from slimtrack.broker.topology import dead_letter_queue
from slimtrack.domain.errors import UnavailableError
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.domain.order import STAGES, Status
from slimtrack.domain.overview import Sample, StageLoad
from slimtrack.domain.published import FAN_OUT
from slimtrack.routing import BY_QUEUE, BY_STAGE
from slimtrack.sql import dead_letters, operator_actions, outbox, reconciling, watching
from slimtrack.sql.audit import StuckOrder
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, snapshot
from slimtrack.use_cases.holding import Held

_log: Final = structlog.get_logger()

#: Rows that are counted or made due again, at most, of one kind.
LIMIT: Final = 1_000
#: Orders that are named.
_NAMED: Final = 50
#: Seconds for which one look serves everybody who looks.
_HOLDS: Final = 1.8


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """A stage, or the fan-out: its rows, and its queue where it has one and the broker says."""

    stage: str
    queue: str
    load: StageLoad
    depth: QueueDepth | None
    rejected: QueueDepth | None
    dead_letters: int
    #: Orders a second that reached it lately; None where nobody has counted.
    rate: float | None


class QueuesState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that waits, as of one moment."""

    queues: list[QueueState]
    stuck: list[StuckOrder]
    broker_answers: bool


class Reconciling:
    """Looks at what waits, and mends what was lost; any thread may.

    Every method raises ``UnavailableError`` where the database does not answer.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        wake_up: tells the publisher that rows may be due.
        deadlines: seconds after which a row counts as stuck, by its stage.
        measure_queues: asks the broker for the depth of queues; None where it does not answer.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        wake_up: Callable[[], None],
        deadlines: Mapping[str, float],
        measure_queues: Callable[[list[str]], Mapping[str, QueueDepth] | None],
    ) -> None:
        self._pool = pool
        self._wake_up = wake_up
        self._deadlines = deadlines
        self._measure_queues = measure_queues
        self._state = Held(self._look, seconds=_HOLDS)

    def look(self) -> QueuesState:
        """Return how everything stands; however many ask, one looks."""
        return self._state.get()

    def find_lost(self) -> dict[Status, int]:
        """Return how many rows of each stage were published and are not in its queue any more.

        Raises:
            UnavailableError: also where the broker does not answer.
        """
        empty = self._empty_stages()
        with unavailable_if_away(), self._pool.connection() as connection, snapshot(connection):
            watching.prefer_indexes(connection)
            return reconciling.count_lost_rows(connection, empty_stages=empty, limit=LIMIT)

    def rearm_lost(self, *, action: OperatorAction) -> int:
        """Make lost rows due again, so many at most; return how many.

        Raises:
            UnavailableError: also where the broker does not answer.
        """
        empty = self._empty_stages()
        with (
            unavailable_if_away(),
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            watching.prefer_indexes(connection)
            rearmed = outbox.rearm_lost_rows(
                connection,
                empty_stages=empty,
                counted_at=outbox.read_clock(connection),
                disrupted_at=None,
                limit=LIMIT,
            )
            operator_actions.record_action(
                connection, action, name=ActionName.RECONCILE, selection={}, affected=rearmed
            )
        self._wake_up()
        _log.warning("outbox.rearmed", rows=rearmed, operator=action.operator)
        return rearmed

    def _empty_stages(self) -> list[Status]:
        depths = self._measure_queues(list(BY_QUEUE))
        if depths is None:
            raise UnavailableError("RabbitMQ does not answer.")
        return [
            stage
            for stage, route in BY_STAGE.items()
            if route.queue_name in depths and depths[route.queue_name].messages == 0
        ]

    def _look(self) -> QueuesState:
        names = [each for queue in BY_QUEUE for each in (queue, dead_letter_queue(queue))]
        depths = self._measure_queues(names)
        with unavailable_if_away(), self._pool.connection() as connection, snapshot(connection):
            watching.prefer_indexes(connection)
            loads = watching.measure_rows(connection, [*STAGES, FAN_OUT], limit=LIMIT)
            letters = dead_letters.count_waiting(connection, limit=LIMIT)
            sample = watching.newest_sample(connection)
            stuck = reconciling.find_first_stuck_orders(
                connection, self._deadlines, most=LIMIT, limit=_NAMED
            )
        return QueuesState(
            queues=[
                _queue_state(stage, load, depths or {}, letters=letters, sample=sample)
                for stage, load in loads.items()
            ],
            stuck=stuck,
            broker_answers=depths is not None,
        )


def _queue_state(
    stage: str,
    load: StageLoad,
    depths: Mapping[str, QueueDepth],
    *,
    letters: Mapping[str, int],
    sample: Sample | None,
) -> QueueState:
    queue = "" if stage == FAN_OUT else BY_STAGE[Status(stage)].queue_name
    moves = sample.statuses.get(Status(stage)) if sample and queue else None
    return QueueState(
        stage=stage,
        queue=queue,
        load=load,
        depth=depths.get(queue),
        rejected=depths.get(dead_letter_queue(queue)),
        dead_letters=letters.get(stage, 0),
        rate=(moves.rate if moves else 0.0) if sample and queue else None,
    )
