"""The statement that accepts an order, for pgbench: ``pgbench -M prepared -n -f FILE``."""

import re
from typing import Final

from slimtrack.domain.event import MESSAGES
from slimtrack.domain.order import DEFAULT_TENANT, JOURNEY, Flow, Status
from slimtrack.sql import statements

#: A UUIDv7 like those of the API: random ones would touch other pages of the indexes.
_ID: Final = (
    "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')"
    " || '7' || substr(gen_random_uuid()::text, 16))::uuid"
)
#: What the API sends for a plain order, as SQL.
_VALUES: Final = {
    "id": _ID,
    "tenant_id": f"{DEFAULT_TENANT}",
    "reference": "NULL",
    "description": ":description",
    "metadata": "'{}'",
    "flow": f"'{Flow.SIMULATED}'",
    "outcome": "NULL",
    "correlation_id": "md5(:description::text)",
    "created_at": "now()",
    "status": f"'{Status.RECEIVED}'",
    "message": f"'{MESSAGES[Status.RECEIVED]}'",
    "next_stage": f"'{JOURNEY[0]}'",
    "next_delay": "3",
    "fan_out": "false",
}


def accept_script() -> str:
    """Return a script for pgbench that places one order; a transaction is an accepted order."""
    statement = statements.load("orders.sql")["place_order"]
    statement = re.sub(r"%\((\w+)\)s", lambda name: _VALUES[name[1]], statement)
    return f"\\set description random(1, 1000000000)\n{statement};\n"
