"""The roles that the migrations make, and how they are let in."""

from enum import StrEnum
from typing import Any

import psycopg
from psycopg import sql


class Role(StrEnum):
    """A role with the least rights for what it is for; the owner has all, in the database."""

    OWNER = "slimtrack_owner"
    API = "slimtrack_api"
    PUBLISHER = "slimtrack_publisher"
    WORKER = "slimtrack_worker"
    READONLY = "slimtrack_readonly"


def allow_login(connection: psycopg.Connection[Any], role: Role, *, password: str) -> None:
    """Let a role log in with a password."""
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))
