"""What operators did, whatever they did it to: kept, and shown to those who run the system."""

import re
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from visitors import Visitor, dashboard_app

from slimtrack.domain.access import Scope
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.settings import Settings
from slimtrack.sql import operator_actions, statements
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking

PATH = "/dashboard/actions"
ORDER = "0193a1b2-0000-7000-8000-000000000001"
Connection = psycopg.Connection[Any]


@pytest.fixture(params=["en", "pt"])
def reader(
    request: pytest.FixtureRequest, settings: Settings, pool: ConnectionPool, tracking: Tracking
) -> Visitor:
    visitor = Visitor(dashboard_app(settings, pool, tracking), language=request.param)
    token = Access(pool).create_key(tenant="default", name="test", scopes=[Scope.ORDERS_READ])
    visitor.sign_in(token)
    return visitor


def record(connection: Connection, name: Any, **selection: object) -> None:
    action = OperatorAction(operator="ada", reason="it is <late>")
    assert operator_actions.record_action(
        connection, action, name=name, selection=selection, affected=1
    )


@pytest.mark.parametrize("name", ActionName)
def test_everything_that_operators_can_do_is_shown_in_words(
    reader: Visitor, connection: Connection, name: ActionName
) -> None:
    record(connection, name, order_id=ORDER, event=2)

    page = reader.get(PATH)

    assert page.status_code == 200
    [row] = re.findall(f'<tr data-action="{name}">.*?</tr>', page.text, re.DOTALL)
    cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall("<td.*?</td>", row)]
    assert cells[2] not in {"", name}
    assert cells[4] == "it is &lt;late&gt;"
    assert f'href="/dashboard/orders/{ORDER}"' in row
    assert "event" in cells[5]


def test_what_only_a_newer_version_can_do_is_shown_by_its_name(
    reader: Visitor, connection: Connection
) -> None:
    record(connection, "teleport")
    assert "teleport" in reader.get(PATH).text


def test_actions_are_walked_page_by_page(reader: Visitor, connection: Connection) -> None:
    for _ in range(51):
        record(connection, ActionName.STOP)
    first = reader.get(PATH).text
    [query] = re.findall(r'rel="next" href="([^"]*)"', first)
    rest = reader.get(f"{PATH}{query}").text
    assert (first.count("data-action="), rest.count("data-action=")) == (50, 1)
    assert 'rel="next"' not in rest


@pytest.mark.parametrize(
    ("statement", "parameters", "index"),
    [
        ("list_actions", {"before": 9, "limit": 51}, "operator_actions_pkey"),
        ("get_action", {"operation": "x"}, "operator_actions_operation_key"),
    ],
)
def test_an_index_serves_what_the_page_asks(
    connection: Connection, statement: str, parameters: dict[str, Any], index: str
) -> None:
    connection.execute("SET enable_seqscan = off")  # there is too little for the planner
    query = statements.load("operator_actions.sql")[statement]
    plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}", parameters))
    assert "Seq Scan" not in plan
    assert index in plan
