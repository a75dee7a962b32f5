"""The roles that the migrations make, and how they are let in."""

from enum import StrEnum
from typing import Any

import psycopg
import psycopg.errors
from psycopg import sql

from slimtrack.domain.errors import SlimTrackError


class Role(StrEnum):
    """A role with the least rights for what it is for; the owner has all, in the database."""

    OWNER = "slimtrack_owner"
    API = "slimtrack_api"
    PUBLISHER = "slimtrack_publisher"
    WORKER = "slimtrack_worker"
    READONLY = "slimtrack_readonly"


class RoleError(SlimTrackError):
    """A role cannot be let in."""


def allow_login(connection: psycopg.Connection[Any], role: Role, *, password: str) -> None:
    """Let a role log in with a password.

    Raises:
        RoleError: there is no such role, or this session's may not do it.
    """
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
    try:
        connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))
    except (psycopg.errors.UndefinedObject, psycopg.errors.InsufficientPrivilege) as error:
        raise RoleError(
            f"{role} cannot be let in: {error}. Run `slimtrack migrate` as a user who may make "
            f"roles, or without {role.upper()}_PASSWORD."
        ) from error
