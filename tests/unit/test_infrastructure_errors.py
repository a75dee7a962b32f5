"""Which errors say that a server failed, so that no attempt is counted."""

import psycopg
import psycopg_pool
import pytest
from psycopg import errors

from slimtrack.domain.errors import SlimTrackError
from slimtrack.sql.errors import is_infrastructure

SERVER_FAILED = [
    "08000",
    "08001",
    "08003",
    "08004",
    "08006",
    "08007",
    "08P01",
    "53000",
    "53100",
    "53200",
    "53300",
    "53400",
    "57P01",
    "57P02",
    "57P03",
    "57P04",
    "57P05",
    "58000",
    "58030",
    "58P01",
    "25006",
    "25P03",
    "40001",
    "40P01",
    "55P03",
]

WORK_FAILED = [
    "02000",
    "0A000",
    "22001",
    "22003",
    "22012",
    "22P02",
    "23502",
    "23503",
    "23505",
    "23514",
    "25001",
    "25P02",
    "26000",
    "28P01",
    "3D000",
    "40002",
    "40003",
    "42501",
    "42601",
    "42P01",
    "42703",
    "54000",
    "55000",
    "55006",
    "57000",
    "57014",
    "P0001",
    "XX000",
]


@pytest.mark.parametrize("state", SERVER_FAILED)
def test_a_state_of_the_server_is_infrastructure(state: str) -> None:
    assert is_infrastructure(errors.lookup(state)("away"))


@pytest.mark.parametrize("state", WORK_FAILED)
def test_any_other_state_is_the_fault_of_the_work(state: str) -> None:
    assert not is_infrastructure(errors.lookup(state)("wrong"))


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is lost"),
        psycopg.errors.ConnectionTimeout("connection timeout expired"),
        psycopg_pool.PoolTimeout("no connection within 5 s"),
        psycopg_pool.PoolClosed("the pool is closed"),
        psycopg_pool.TooManyRequests("the queue is full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_connection_and_an_exhausted_pool_are_infrastructure(error: Exception) -> None:
    assert is_infrastructure(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.ProgrammingError("the query has 2 placeholders"),
        psycopg.DataError("PostgreSQL text fields cannot contain NUL"),
        ValueError("no such carrier"),
        ConnectionError("the carrier does not answer"),
        TimeoutError("the carrier takes too long"),
        SlimTrackError("refused"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_is_not_of_a_server_of_ours_is_not_infrastructure(
    error: BaseException,
) -> None:
    assert not is_infrastructure(error)


def test_a_connection_that_is_refused_is_infrastructure() -> None:
    with pytest.raises(psycopg.Error) as caught:
        psycopg.connect("postgresql://nobody@127.0.0.1:1/none", connect_timeout=2)

    assert is_infrastructure(caught.value)
