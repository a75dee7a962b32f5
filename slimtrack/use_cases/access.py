"""The use cases of access: tenants, API keys, and whose key a token is."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Final

import msgspec
import psycopg
import structlog

from slimtrack.domain.access import ANYBODY, DEFAULT_TENANT_NAME, ApiKey, Principal, Scope, Tenant
from slimtrack.domain.errors import FieldError, SlimTrackError
from slimtrack.domain.order import Flow
from slimtrack.domain.rules import clean_text
from slimtrack.sql import access
from slimtrack.sql.access import StoredKey
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, run

_log: Final = structlog.get_logger()

_PREFIX: Final = "stk"
#: Random bytes of a key's public part and of its secret.
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(
    rf"{_PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})"
)
#: A hundred years: the last day is one that every reader can hold.
_MOST_DAYS: Final = 36_500
#: Characters in the name of a tenant or a key.
_MAX_NAME: Final = 100
#: Seconds for which a process knows a key without asking: a revocation takes effect after them.
_REMEMBERED: Final = 0.5
#: Keys that a process knows at once; more are asked for again.
_MOST_REMEMBERED: Final = 10_000


class AccessError(SlimTrackError):
    """What is asked for cannot be granted, made or found."""


class Access:
    """Makes tenants and keys, and tells whose key a token is.

    Args:
        pool: connections to PostgreSQL, in autocommit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[str, tuple[float, StoredKey | None]] = {}
        self._anybody = (-inf, ANYBODY)

    def create_tenant(self, name: str, *, flow: Flow) -> Tenant:
        """Make a tenant.

        Raises:
            AccessError: there is one of that name, or it is no name.
        """
        name = _name(name, of="tenant")
        with self._pool.connection() as connection:
            tenant = access.create_tenant(connection, name, flow=flow)
        if tenant is None:
            raise AccessError(f"There is a tenant {name!r} already.")
        return tenant

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants."""
        with self._pool.connection() as connection:
            return access.list_tenants(connection)

    def get_tenant(self, name: str) -> Tenant:
        """Return a tenant.

        Raises:
            AccessError: there is no such tenant.
        """
        name = _name(name, of="tenant")
        with self._pool.connection() as connection:
            tenant = access.get_tenant(connection, name)
        if tenant is None:
            raise AccessError(f"There is no tenant {name!r}.")
        return tenant

    def set_flow(self, name: str, *, flow: Flow) -> Tenant:
        """Change what moves a tenant's new orders.

        Raises:
            AccessError: there is no such tenant.
        """
        name = _name(name, of="tenant")
        with self._pool.connection() as connection:
            tenant = access.set_flow(connection, name, flow=flow)
        if tenant is None:
            raise AccessError(f"There is no tenant {name!r}.")
        return tenant

    def create_key(
        self,
        *,
        tenant: str,
        name: str,
        scopes: Collection[Scope],
        lifetime: timedelta | None = None,
    ) -> str:
        """Make a key and return its token, which nobody can find out later.

        Raises:
            AccessError: there is no such tenant, or a name is none.
        """
        token = new_token()
        self.store_key(token, tenant=tenant, name=name, scopes=scopes, lifetime=lifetime)
        return token

    def store_key(
        self,
        token: str,
        *,
        tenant: str,
        name: str,
        scopes: Collection[Scope],
        lifetime: timedelta | None = None,
    ) -> None:
        """Make a key of a token that was made before; a second time changes nothing.

        Raises:
            AccessError: there is no such tenant, it is no token, or a name is none.
        """
        tenant, name = _name(tenant, of="tenant"), _name(name, of="key")
        parts = _split(token)
        if parts is None:
            raise AccessError("That is no API key.")
        key_id, secret = parts
        with self._pool.connection() as connection:
            stored = access.create_key(
                connection,
                key_id,
                tenant=tenant,
                name=name,
                secret_hash=_digest(secret),
                scopes=scopes,
                expires_at=datetime.now(UTC) + lifetime if lifetime else None,
            )
        if not stored:
            raise AccessError(f"There is no tenant {tenant!r}.")

    def list_keys(self) -> list[ApiKey]:
        """Return all keys, without their secrets."""
        with self._pool.connection() as connection:
            return access.list_keys(connection)

    def revoke_key(self, key_id: str) -> None:
        """Make a key useless, within a second.

        Raises:
            AccessError: there is no such key.
        """
        with self._pool.connection() as connection:
            if not (key_id.isascii() and access.revoke_key(connection, key_id)):
                raise AccessError(f"There is no API key {key_id!r}.")

    def authenticate(self, token: str) -> Principal | None:
        """Return whose key a token is; None if it is none, or must not be used any more.

        Raises:
            UnavailableError: the database does not answer.
        """
        parts = _split(token)
        if parts is None:
            return None
        key_id, secret = parts
        key = self._look_up(key_id)
        if key is None or not hmac.compare_digest(key.secret_hash, _digest(secret)):
            return None
        if key.expires_at and key.expires_at <= datetime.now(UTC):
            return None
        if key.unrecorded:
            self._record_use(key_id, key)
        return key.principal

    def find(self, key_id: str) -> Principal | None:
        """Return whose key an id is; None if it must not be used any more.

        For those who have shown the key before.

        Raises:
            UnavailableError: the database does not answer.
        """
        key = self._look_up(key_id)
        if key is None or (key.expires_at and key.expires_at <= datetime.now(UTC)):
            return None
        return key.principal

    def session_secret(self) -> bytes:
        """Return what the sessions of browsers are signed with, in every process alike.

        Raises:
            UnavailableError: the database does not answer.
        """
        with unavailable_if_away():
            return run(self._pool, access.get_session_secret)

    def anybody(self) -> Principal:
        """Return who everybody is where no key is asked for: the default tenant.

        Raises:
            UnavailableError: the database does not answer.
        """
        now = time.monotonic()
        asked_at, principal = self._anybody
        if now - asked_at >= _REMEMBERED:
            with unavailable_if_away():
                tenant = run(
                    self._pool,
                    lambda connection: access.get_tenant(connection, DEFAULT_TENANT_NAME),
                )
            if tenant:
                principal = msgspec.structs.replace(
                    principal, tenant_id=tenant.id, flow=tenant.flow
                )
            self._anybody = (now, principal)
        return principal

    def _look_up(self, key_id: str) -> StoredKey | None:
        now = time.monotonic()
        asked_at, key = self._known.get(key_id, (-inf, None))
        if now - asked_at < _REMEMBERED:
            return key
        with unavailable_if_away():
            key = run(self._pool, lambda connection: access.get_key(connection, key_id))
        if len(self._known) >= _MOST_REMEMBERED:  # keys that do not exist count as well
            self._known.clear()
        self._known[key_id] = (now, key)
        return key

    def _record_use(self, key_id: str, key: StoredKey) -> None:
        try:
            run(self._pool, lambda connection: access.record_use(connection, key_id))
        except psycopg.Error as error:
            # No reason to turn its holder away: whether the database answers, the request will see.
            _log.warning("key.use_unrecorded", key=key_id, error=str(error))
        # A key that was looked up again meanwhile knows it already.
        asked_at, known = self._known.get(key_id, (-inf, None))
        if known is key:
            self._known[key_id] = (asked_at, key._replace(unrecorded=False))


def new_token() -> str:
    """Return a token that nobody can guess: 256 random bits."""
    return f"{_PREFIX}_{secrets.token_hex(_ID_BYTES)}_{secrets.token_hex(_SECRET_BYTES)}"


def lifetime_of(days: int) -> timedelta:
    """Return how long a key is valid.

    Raises:
        AccessError: it is no time at all, or longer than a hundred years.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise AccessError(f"A key is valid for 1 to {_MOST_DAYS} days, not {days}.")
    return timedelta(days=days)


def _name(text: str, *, of: str) -> str:
    try:
        return clean_text("name", text, most=_MAX_NAME)
    except FieldError as error:
        raise AccessError(f"The name of a {of} {error.reason}.") from error


def _split(token: str) -> tuple[str, str] | None:
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
