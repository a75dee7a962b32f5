"""How the system fares, at one look; the fields are those that the page is sent."""

from enum import StrEnum
from uuid import UUID

import msgspec

from slimtrack.domain.order import Status


class StageLoad(msgspec.Struct, frozen=True):
    """The rows of a stage, each figure as far as a limit.

    Attributes:
        waiting: due later: after their delay, or for another attempt.
        due: due now, and not published yet.
        retries: of both, those that failed before.
        in_flight: published, and not worked on yet.
        oldest_due: seconds since the oldest due row was due.
    """

    waiting: int
    due: int
    retries: int
    in_flight: int
    oldest_due: float


class StatusCount(msgspec.Struct, frozen=True):
    """How many orders are in a status.

    Attributes:
        orders: as many as were counted.
        estimate: where there are more than are counted, how many as far as the statistics know.
    """

    orders: int
    estimate: int | None


class Moves(msgspec.Struct, frozen=True):
    """How orders reached a status.

    Attributes:
        rate: orders a second.
        p50: seconds from when they were due, of half of them; None where no stage moved them.
        p90: the same, of nine of ten.
    """

    rate: float
    p50: float | None = None
    p90: float | None = None


class Sample(msgspec.Struct, frozen=True):
    """How the system fared in ten seconds.

    Attributes:
        taken_at: Unix time.
        oldest_due: seconds since the oldest due row was due.
        dead_letters: those that nobody has decided about, as far as a limit.
        stuck: rows that were past their deadline; None where nobody has looked.
        statuses: how each was reached.
    """

    taken_at: float
    oldest_due: float
    dead_letters: int
    stuck: int | None
    statuses: dict[Status, Moves]


class Failure(msgspec.Struct, frozen=True):
    """Dead letters of one cause, among the latest.

    Attributes:
        stage: None for messages that name no row.
        error_type: the name of the error's type.
        fingerprint: tells causes apart.
        letters: how many.
        order_id: the order of the latest.
        tracking_code: of the same order.
        died_at: when the latest was given up, Unix time.
    """

    stage: Status | None
    error_type: str
    fingerprint: str
    letters: int
    order_id: UUID | None
    tracking_code: str | None
    died_at: float


class TroubleKind(StrEnum):
    """What may be wrong; the worst first."""

    RABBITMQ_AWAY = "rabbitmq_away"
    PUBLISHER_AWAY = "publisher_away"
    WORKER_AWAY = "worker_away"
    ROWS_WAIT = "rows_wait"
    ORDERS_STUCK = "orders_stuck"
    DEAD_LETTERS = "dead_letters"
    REDIS_AWAY = "redis_away"


class Trouble(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        kind: what.
        subject: which queue or stage, where there is more than one.
        figure: how many, or how many seconds.
    """

    kind: TroubleKind
    subject: str = ""
    figure: float = 0.0


class Overview(msgspec.Struct, frozen=True):
    """Everything that the overview shows of one moment.

    Attributes:
        troubles: what is wrong, the worst first.
        processes: how many of each kind give signs of life.
        statuses: where orders are.
        stages: the rows that wait.
        dead_letters: those that nobody has decided about, by stage; empty for messages of none.
        failures: the latest of them, by cause.
        sample: the latest.
    """

    troubles: list[Trouble]
    processes: dict[str, int]
    statuses: dict[Status, StatusCount]
    stages: dict[Status, StageLoad]
    dead_letters: dict[str, int]
    failures: list[Failure]
    sample: Sample | None
