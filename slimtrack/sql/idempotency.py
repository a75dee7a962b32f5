"""The statements on idempotency keys; they never commit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from psycopg.rows import scalar_row

from slimtrack.domain.idempotency import Answer
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


class Answered(NamedTuple):
    """A command that was carried out before."""

    fingerprint: bytes
    answer: Answer


def _query(name: str) -> str:
    return statements.load("idempotency.sql")[name]


def lock_key(connection: Connection, key: str, *, tenant_id: int) -> bool:
    """Lock a key until the transaction ends; False if somebody else holds it."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        parameters = {"key": key, "tenant_id": tenant_id}
        return bool(cursor.execute(_query("lock_key"), parameters, prepare=True).fetchone())


def lock_rows(connection: Connection, *, tenant_id: int) -> None:
    """Wait until nobody else uses keys of rows of a tenant, until the transaction ends."""
    connection.execute(_query("lock_rows"), {"tenant_id": tenant_id}, prepare=True)


def find_answers(
    connection: Connection, keys: Sequence[str], *, tenant_id: int, lifetime: float
) -> dict[str, Answered]:
    """Return what was answered to commands with these keys in the last ``lifetime`` seconds."""
    parameters = {"keys": keys, "tenant_id": tenant_id, "lifetime": lifetime}
    rows = connection.execute(_query("find_answers"), parameters, prepare=True).fetchall()
    return {
        key: Answered(
            bytes(fingerprint),
            Answer(status=status, headers=headers, body=bytes(body), replayed=True),
        )
        for key, fingerprint, status, headers, body in rows
    }


def store_answers(
    connection: Connection,
    bodies: Mapping[str, tuple[bytes, bytes]],
    *,
    tenant_id: int,
    status: int,
    headers: Mapping[str, str],
) -> None:
    """Store the fingerprint and the answer's body for each key, in the effect's transaction."""
    parameters = {
        "tenant_id": tenant_id,
        "keys": list(bodies),
        "fingerprints": [fingerprint for fingerprint, _ in bodies.values()],
        "bodies": [body for _, body in bodies.values()],
        "status": status,
        "headers": msgspec.json.encode(headers).decode(),
    }
    connection.execute(_query("store_answers"), parameters, prepare=True)


def prune_answers(connection: Connection, *, lifetime: float, limit: int) -> int:
    """Delete answers older than ``lifetime`` seconds; return how many."""
    parameters = {"lifetime": lifetime, "limit": limit}
    return connection.execute(_query("prune_answers"), parameters).rowcount
