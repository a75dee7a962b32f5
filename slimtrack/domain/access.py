"""Who may do what: tenants, API keys and their scopes."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from slimtrack.domain.order import DEFAULT_TENANT, Flow

#: What the tenant is called that is there from the beginning.
DEFAULT_TENANT_NAME: Final = "default"


class Scope(StrEnum):
    """What an API key allows."""

    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    REPORTS_WRITE = "reports:write"
    OPERATOR = "operator"


class Tenant(msgspec.Struct, frozen=True):
    """Whose orders they are; ``flow`` is what moves them unless an order says otherwise."""

    id: int
    name: str
    flow: Flow
    created_at: datetime


class ApiKey(msgspec.Struct, frozen=True):
    """A key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the holder of a key, acting for a tenant."""

    key_id: str
    tenant_id: int
    scopes: frozenset[Scope]
    flow: Flow


#: Everybody, where keys are not asked for; the flow is that of a default tenant nobody has changed.
ANYBODY: Final = Principal("", DEFAULT_TENANT, frozenset(Scope), Flow.SIMULATED)
