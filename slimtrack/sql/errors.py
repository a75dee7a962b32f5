"""Which errors of PostgreSQL say that a server failed, not the work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import psycopg.errors

from slimtrack.domain.errors import UnavailableError

#: SQLSTATEs after which the same statement may succeed: connection failures (08), out of
#: resources (53), shutdown and crash (57P), system errors (58); then read-only transaction,
#: idle-in-transaction time-out, serialisation failure, deadlock, lock not available.
_PREFIXES: Final = ("08", "53", "57P", "58")
_STATES: Final = frozenset({"25006", "25P03", "40001", "40P01", "55P03"})


def is_infrastructure(error: BaseException) -> bool:
    """Tell whether trying again later may help, because a server failed and not the work.

    A time-out of the pool and a connection that was refused or cut bear no SQLSTATE.
    """
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_PREFIXES) or error.sqlstate in _STATES


@contextmanager
def unavailable_if_away() -> Iterator[None]:
    """Say in the words of the domain that the database does not answer.

    Raises:
        UnavailableError: it does not, or not in the time that the session allows.
    """
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise UnavailableError("The database took too long.") from error
    except psycopg.Error as error:
        if is_infrastructure(error):
            raise UnavailableError(f"The database does not answer: {error}") from error
        raise
