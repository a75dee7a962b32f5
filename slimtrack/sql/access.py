"""The statements on tenants and API keys; they never commit."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import args_row

from slimtrack.domain.access import ApiKey, Principal, Scope, Tenant
from slimtrack.domain.order import Flow
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


class StoredKey(NamedTuple):
    """A key that may be used, and who its holder is."""

    secret_hash: bytes
    principal: Principal
    expires_at: datetime | None
    #: Whether its last use should be written down.
    unrecorded: bool


def _query(name: str) -> str:
    return statements.load("access.sql")[name]


def _tenant(tenant_id: int, name: str, flow: str, created_at: datetime) -> Tenant:
    return Tenant(tenant_id, name, Flow(flow), created_at)


def create_tenant(connection: Connection, name: str, *, flow: Flow) -> Tenant | None:
    """Make a tenant; None if there is one of that name."""
    with connection.cursor(row_factory=args_row(_tenant)) as cursor:
        return cursor.execute(_query("create_tenant"), {"name": name, "flow": flow}).fetchone()


def list_tenants(connection: Connection) -> list[Tenant]:
    """Return all tenants, in the order of their making."""
    with connection.cursor(row_factory=args_row(_tenant)) as cursor:
        return cursor.execute(_query("list_tenants")).fetchall()


def get_tenant(connection: Connection, name: str) -> Tenant | None:
    """Return a tenant; None for an unknown name."""
    with connection.cursor(row_factory=args_row(_tenant)) as cursor:
        return cursor.execute(_query("get_tenant"), {"name": name}).fetchone()


def set_flow(connection: Connection, name: str, *, flow: Flow) -> Tenant | None:
    """Change what moves a tenant's new orders; None if there is no such tenant."""
    with connection.cursor(row_factory=args_row(_tenant)) as cursor:
        return cursor.execute(_query("set_flow"), {"name": name, "flow": flow}).fetchone()


def create_key(
    connection: Connection,
    key_id: str,
    *,
    tenant: str,
    name: str,
    secret_hash: bytes,
    scopes: Collection[Scope],
    expires_at: datetime | None,
) -> bool:
    """Store a key; False if there is no such tenant."""
    parameters = {
        "id": key_id,
        "tenant": tenant,
        "name": name,
        "secret_hash": secret_hash,
        "scopes": sorted(scopes),
        "expires_at": expires_at,
    }
    return connection.execute(_query("create_key"), parameters).fetchone() is not None


def list_keys(connection: Connection) -> list[ApiKey]:
    """Return all keys, in the order of their making."""

    def read(*columns: Any) -> ApiKey:
        key_id, tenant, name, scopes, *times = columns
        return ApiKey(key_id, tenant, name, [Scope(scope) for scope in scopes], *times)

    with connection.cursor(row_factory=args_row(read)) as cursor:
        return cursor.execute(_query("list_keys")).fetchall()


def revoke_key(connection: Connection, key_id: str) -> bool:
    """Make a key useless for ever; False for an unknown one."""
    return connection.execute(_query("revoke_key"), {"id": key_id}).fetchone() is not None


def get_key(connection: Connection, key_id: str) -> StoredKey | None:
    """Return a key that may be used now."""
    row = connection.execute(_query("get_key"), {"id": key_id}, prepare=True).fetchone()
    if row is None:
        return None
    secret_hash, tenant_id, scopes, flow, expires_at, unrecorded = row
    principal = Principal(key_id, tenant_id, frozenset(map(Scope, scopes)), Flow(flow))
    return StoredKey(bytes(secret_hash), principal, expires_at, unrecorded)


def record_use(connection: Connection, key_id: str) -> None:
    """Write down that a key was used."""
    connection.execute(_query("record_use"), {"id": key_id}, prepare=True)


def get_session_secret(connection: Connection) -> bytes:
    """Return what the sessions of browsers are signed with."""
    row = connection.execute(_query("get_session_secret"), binary=True).fetchone()
    assert row  # noqa: S101 - the migration has made it
    return bytes(row[0])
