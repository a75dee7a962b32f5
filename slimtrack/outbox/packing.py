"""How due rows are packed into messages."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from slimtrack.broker.messages import SetMessage
from slimtrack.domain.order import Status
from slimtrack.routing import BY_STAGE
from slimtrack.sql.outbox import DueRow


def pack(
    rows: Sequence[DueRow], *, set_size: int, single: Collection[Status] = ()
) -> list[SetMessage]:
    """Pack the rows of each stage, in their order, into messages of at most ``set_size`` rows.

    The rows of ``single`` stages travel alone, so that all threads share them.

    Rows that were published before travel apart from the others, and their messages say so:
    one of them may have ended its process, and shall not take others with it again.
    """
    sets: defaultdict[tuple[Status, bool], list[int]] = defaultdict(list)
    for row in rows:
        sets[row.stage, row.publications > 0].append(row.id)
    return [
        SetMessage(
            queue_name=BY_STAGE[stage].queue_name,
            actor_name=BY_STAGE[stage].actor_name,
            row_ids=ids[start : start + size],
            again=again,
        )
        for (stage, again), ids in sorted(sets.items(), key=lambda each: each[0][1])
        for size in (1 if stage in single else set_size,)
        for start in range(0, len(ids), size)
    ]
