"""Dead letters, as many as a test needs."""

from typing import Any

import psycopg

from slimtrack.domain.order import NewOrder, new_order_id
from slimtrack.use_cases.tracking import Tracking


def bury(connection: psycopg.Connection[Any], tracking: Tracking, *errors: str) -> list[int]:
    """Make a dead letter of a new order for each error; return their ids."""
    tracking.place_many(
        [NewOrder(id=new_order_id(), description=f"Parcel {n}") for n in range(len(errors))]
    )
    rows = connection.execute(
        "WITH deleted AS (DELETE FROM outbox RETURNING *),"
        " given_up AS (SELECT *, row_number() OVER (ORDER BY id) AS n FROM deleted)"
        " INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications,"
        "  attempts, correlation_id, created_at, actor, queue, error_type, error, traceback,"
        "  fingerprint)"
        " SELECT id, stage, order_id, from_sequence, 3, 5, correlation_id, created_at,"
        "  'start_processing', 'orders.processing', split_part(errors.error, ':', 1), errors.error,"
        "  'Traceback …', md5(errors.error)"
        " FROM given_up JOIN unnest(%s::text[]) WITH ORDINALITY AS errors (error, n) USING (n)"
        " ORDER BY n"
        " RETURNING id",
        (list(errors),),
    ).fetchall()
    return [row[0] for row in rows]
