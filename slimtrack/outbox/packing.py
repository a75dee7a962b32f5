"""How due rows are packed into messages."""

from collections import defaultdict
from collections.abc import Sequence

from slimtrack.broker.messages import SetMessage
from slimtrack.domain.order import Status
from slimtrack.routing import BY_STAGE
from slimtrack.sql.outbox import DueRow


def pack(rows: Sequence[DueRow], *, set_size: int) -> list[SetMessage]:
    """Pack the rows of each stage, in their order, into messages of at most ``set_size`` rows.

    A row that was published before travels alone: if it was the one that ended its process, it
    shall not take others with it again.
    """
    fresh: defaultdict[Status, list[int]] = defaultdict(list)
    again: defaultdict[Status, list[int]] = defaultdict(list)
    for row in rows:
        (again if row.publications else fresh)[row.stage].append(row.id)
    sets = [
        (stage, ids[start : start + set_size])
        for stage, ids in fresh.items()
        for start in range(0, len(ids), set_size)
    ]
    sets += [(stage, [row_id]) for stage, ids in again.items() for row_id in ids]
    return [
        SetMessage(
            queue_name=BY_STAGE[stage].queue_name,
            actor_name=BY_STAGE[stage].actor_name,
            row_ids=ids,
        )
        for stage, ids in sets
    ]
