"""Dead letters in the dashboard: found, replayed, edited, discarded, each with a reason."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import psycopg
import pytest
from burying import bury
from psycopg_pool import ConnectionPool
from visitors import Visitor, dashboard_app

from slimtrack.domain.access import Scope
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.errors import UnavailableError
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import Status
from slimtrack.settings import Settings
from slimtrack.sql import outbox, statements
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.actions import Actions
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.tracking import Tracking

PATH = "/dashboard/dead-letters"
Connection = psycopg.Connection[Any]


@pytest.fixture
def app(settings: Settings, pool: ConnectionPool, tracking: Tracking) -> Any:
    return dashboard_app(settings, pool, tracking)


@pytest.fixture
def operator(app: Any, pool: ConnectionPool) -> Visitor:
    return visitor(app, pool, Scope.OPERATOR)


def visitor(app: Any, pool: ConnectionPool, scope: Scope) -> Visitor:
    made = Visitor(app)
    made.sign_in(Access(pool).create_key(tenant="default", name="test", scopes=[scope]))
    made.get(PATH)  # a page with the token of the session
    return made


def places(connection: Connection) -> tuple[int, int, int]:
    """Return how many rows are due, dead, discarded."""
    row: tuple[int, int, int] | None = connection.execute(
        "SELECT (SELECT count(*) FROM outbox), count(*) FILTER (WHERE discarded_at IS NULL),"
        " count(discarded_at) FROM dead_letters"
    ).fetchone()
    assert row
    return row


def hidden(page: str, name: str) -> str:
    """Return what a form of a page would send for a field."""
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found, name
    return unescape(found[1])


def form(page: str) -> dict[str, str]:
    """Return what the form of a preview would send of itself."""
    return {name: hidden(page, name) for name in ("operation", "expected", "up_to")}


def decide(operator: Visitor, *, changed: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Look at the preview, give a reason, and go on."""
    preview = operator.post(f"{PATH}/preview", **fields)
    assert preview.status_code == 200, preview.text
    given = {
        "reason": "mended",
        **form(preview.text),
        **fields,
        **(changed or {}),
    }
    return operator.post(f"{PATH}/decide", **given)


def test_letters_are_shown_by_cause_and_one_by_one(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    ids = bury(connection, tracking, "KeyError: <b>&", "KeyError: <b>&", "OSError: no paper")

    page = operator.get(PATH).text

    assert "3 in all" in page
    assert page.count("KeyError: &lt;b&gt;&amp;") >= 3
    assert "<b>&" not in page
    for each in ids:
        assert f'href="{PATH}/{each}"' in page
    # The latest first.
    assert page.index(f'href="{PATH}/{ids[2]}"') < page.index(f'href="{PATH}/{ids[0]}"')
    one = operator.get(f"{PATH}/{ids[0]}").text
    order = connection.execute("SELECT order_id FROM dead_letters ORDER BY id").fetchone()
    assert order
    assert f'href="/dashboard/orders/{order[0]}"' in one
    assert "Traceback …" in one
    assert operator.get(f"{PATH}/999999").status_code == 404


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("stage=processing", 3),
        ("stage=delivered", 0),
        ("error=PAPER", 1),
        ("type=KeyError", 2),
        ("newer=1h", 3),
        ("older=1h", 0),
        ("discarded=1", 0),
        ("order=01a20bed-3618-7f9b-82ad-70d376ed91d2", 0),
    ],
)
def test_filters_are_in_the_address(
    operator: Visitor, connection: Connection, tracking: Tracking, query: str, count: int
) -> None:
    bury(connection, tracking, "KeyError: a", "KeyError: b", "OSError: no paper")
    page = operator.get(f"{PATH}?{query}").text
    assert ("There is no such dead letter." in page) == (count == 0)
    if count:
        assert f"{count} in all" in page


@pytest.mark.parametrize("query", ["stage=x", "order=x", "newer=1", "older=1y", "error=%00"])
def test_a_filter_that_cannot_be_read_is_named_and_decides_nothing(
    operator: Visitor, connection: Connection, tracking: Tracking, query: str
) -> None:
    bury(connection, tracking, "KeyError: a")
    name, _, value = query.partition("=")
    assert f"left out: {name}" in operator.get(f"{PATH}?{query}").text
    given = {name: value.replace("%00", "\0")}
    assert operator.post(f"{PATH}/preview", action="discard", **given).status_code == 400
    assert places(connection) == (0, 1, 0)


def test_a_group_is_replayed_for_a_reason_once_however_often_the_form_is_sent(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    bury(connection, tracking, "OSError: b", *["KeyError: a"] * 3)
    [group] = connection.execute(
        "SELECT DISTINCT fingerprint FROM dead_letters WHERE error_type = 'KeyError'"
    ).fetchone() or [""]
    fields = {"action": "replay", "group": group, "stage": "processing"}
    preview = operator.post(f"{PATH}/preview", **fields).text
    assert "Replay 3?" in preview
    fields |= form(preview)

    refused = operator.post(f"{PATH}/decide", **fields, reason=" ")
    assert refused.status_code == 422
    assert "Say why" in refused.text
    assert hidden(refused.text, "operation") == fields["operation"]
    assert places(connection) == (0, 4, 0)
    done = operator.post(f"{PATH}/decide", **fields, reason="the key is there again")
    assert done.status_code == 303
    assert places(connection) == (3, 1, 0)
    bury_again = "UPDATE dead_letters SET fingerprint = %s"
    connection.execute(bury_again, (group,))
    assert operator.post(f"{PATH}/decide", **fields, reason="again").status_code == 303
    assert places(connection) == (3, 1, 0)

    assert connection.execute(
        "SELECT action, operator LIKE 'key %', reason, affected FROM operator_actions"
    ).fetchall() == [("replay", True, "the key is there again", 3)]
    assert "the key is there again" in operator.get("/dashboard/actions").text


def test_the_result_of_a_replay_is_what_became_of_its_rows(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    bury(connection, tracking, *["KeyError: a"] * 3)
    place = decide(operator, action="replay").headers["location"]

    def figures() -> list[int]:
        page = operator.get(place, HX_Request="true").text
        return [int(each) for each in re.findall(r"<b>(\d+)</b>", page)]

    assert figures() == [0, 3, 0]
    replayed = operator.get(place).text
    assert "3 replayed" in replayed
    assert "were gone" not in replayed
    [first, second, _] = [row for (row,) in connection.execute("SELECT id FROM outbox ORDER BY id")]
    tracking.advance(Status.PROCESSING, [first])
    assert figures() == [1, 2, 0]
    connection.execute(
        "WITH gone AS (DELETE FROM outbox WHERE id = %s RETURNING *)"
        " INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications,"
        "  attempts, created_at, error_type, error, traceback)"
        " SELECT id, stage, order_id, from_sequence, 1, 1, created_at, 'E', 'E', '' FROM gone",
        (second,),
    )
    assert figures() == [1, 1, 1]
    assert "under way" in operator.get(place).text
    assert operator.get(f"{PATH}/operations/dashboard-none").status_code == 404


def test_what_others_were_faster_with_is_said_and_what_came_later_is_left_alone(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    ids = bury(connection, tracking, *["A: a"] * 3)
    preview = operator.post(f"{PATH}/preview", action="discard").text
    fields = {"action": "discard", "reason": "old", **form(preview)}
    assert decide(operator, action="replay", id=ids[0]).status_code == 303
    connection.execute("DELETE FROM outbox")
    bury(connection, tracking, "A: a")

    place = operator.post(f"{PATH}/decide", **fields).headers["location"]

    assert places(connection) == (0, 1, 2)
    assert "1 of the 3 were gone" in operator.get(place).text


def test_what_has_come_to_match_since_the_preview_is_asked_about_again(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    bury(connection, tracking, "A: a", "A: a")
    older = "UPDATE dead_letters SET died_at = now() - interval '2 h' WHERE id >= %s"
    last = connection.execute("SELECT max(id) FROM dead_letters").fetchone()
    assert last
    connection.execute(older, last)
    fields = {"action": "discard", "older": "1h"}
    fields |= form(operator.post(f"{PATH}/preview", **fields).text)
    assert fields["expected"] == "1"
    connection.execute(older, (0,))

    refused = operator.post(f"{PATH}/decide", **fields, reason="old")

    assert refused.status_code == 422
    assert "By now more than 1 match" in refused.text
    assert "Discard 2?" in refused.text
    assert places(connection) == (0, 2, 0)


def test_what_happened_to_a_row_before_is_on_its_page(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    [letter] = bury(connection, tracking, "A: a")
    name = hidden(operator.get(f"{PATH}/{letter}").text, "operation")
    fields = {"payload": '{"a": 1}', "reason": "moved to Lisbon", "operation": name}
    assert operator.post(f"{PATH}/{letter}/edit", **fields).status_code == 303
    page = operator.get(f"{PATH}/{letter}").text
    assert "edited" in page
    assert "moved to Lisbon" in page
    assert "&#34;a&#34;: 1" in page


def test_only_what_is_selected_is_discarded_and_stays_to_be_seen(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    ids = bury(connection, tracking, "A: a", "A: a", "A: a")

    nothing = operator.post(f"{PATH}/preview", action="discard", which="selected")
    assert nothing.status_code == 400
    assert decide(operator, action="discard", id=ids[:2]).status_code == 303

    assert places(connection) == (0, 1, 2)
    assert "2 in all" in operator.get(f"{PATH}?discarded=1").text
    assert "mended" in operator.get(f"{PATH}/{ids[0]}").text


def test_many_are_only_replayed_when_their_number_was_typed_and_at_a_rate(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    bury(connection, tracking, *["A: a"] * 101)
    wrong = {"typed": "100", "rate": "-1"}
    refused = decide(operator, action="replay", changed=wrong)
    assert refused.status_code == 422
    assert "Type 101." in refused.text
    assert "Give a number" in refused.text
    assert places(connection) == (0, 101, 0)

    unread = decide(operator, action="replay", changed={"expected": ""})
    assert unread.status_code == 400
    right = {"typed": "101", "rate": "50"}
    assert decide(operator, action="replay", changed=right).status_code == 303

    spread = connection.execute(
        "SELECT extract(epoch FROM max(available_at) - min(available_at))::float8 FROM outbox"
    ).fetchone()
    assert spread == (pytest.approx(2.0),)


def test_a_payload_is_edited_and_replayed_and_a_wrong_one_refused(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    [letter] = bury(connection, tracking, "A: a")
    given = {"operation": hidden(operator.get(f"{PATH}/{letter}").text, "operation")}
    for wrong in ("[1]", "{", "", "[" * 15_000):
        refused = operator.post(f"{PATH}/{letter}/edit", **given, payload=wrong, reason="x")
        assert refused.status_code == 422, wrong[:20]
        assert "no JSON object" in refused.text
    assert operator.post(f"{PATH}/{letter}/edit", **given, payload="{}").status_code == 422
    assert operator.post(f"{PATH}/{letter}/edit", payload="{}", reason="x").status_code == 400

    name = hidden(operator.get(f"{PATH}/{letter}").text, "operation")
    fields = {"payload": '{"street": "Rua Nova"}', "reason": "moved", "operation": name}
    for _ in range(2):
        done = operator.post(f"{PATH}/{letter}/edit", **fields, then="replay")
        assert done.status_code == 303
    assert "1 replayed" in operator.get(done.headers["location"]).text

    assert connection.execute("SELECT payload FROM outbox").fetchall() == [
        ({"street": "Rua Nova"},)
    ]
    assert connection.execute("SELECT action FROM operator_actions ORDER BY id").fetchall() == [
        ("edit",),
        ("replay",),
    ]


@pytest.mark.parametrize("then", ["", "replay"])
def test_a_form_that_is_sent_again_with_another_payload_does_nothing_and_says_so(
    operator: Visitor, connection: Connection, tracking: Tracking, then: str
) -> None:
    [letter] = bury(connection, tracking, "A: a")
    path = f"{PATH}/{letter}/edit"
    name = hidden(operator.get(f"{PATH}/{letter}").text, "operation")
    fields = {"reason": "moved", "operation": name}
    operator.post(path, **fields, payload='{"street": "Old", "n": 1}', then=then)

    again = operator.post(path, **fields, payload='{"street": "New"}', then="replay")

    assert again.status_code == 409
    rows = "SELECT payload FROM outbox UNION ALL SELECT payload FROM dead_letters"
    assert connection.execute(rows).fetchall() == [({"street": "Old", "n": 1},)]
    if then:
        assert "not dead any more" in again.text
        return
    assert places(connection) == (0, 1, 0)
    assert "&#34;New&#34;" in again.text
    fields["operation"] = hidden(again.text, "operation")
    assert operator.post(path, **fields, payload='{"street": "New"}').status_code == 303
    # The first form again: what it stored is not there any more.
    fields["operation"] = name
    payload = '{"n": 1, "street": "Old"}'
    assert operator.post(path, **fields, payload=payload, then="replay").status_code == 409
    assert connection.execute(rows).fetchall() == [({"street": "New"},)]


@pytest.mark.parametrize("reason", ["", "a\0b", 501 * "x"])
def test_a_reason_is_a_line_of_500_characters_at_most(
    operator: Visitor, connection: Connection, tracking: Tracking, reason: str
) -> None:
    [letter] = bury(connection, tracking, "A: a")
    page = operator.get(f"{PATH}/{letter}").text
    assert 'maxlength="500"' in page
    edited = {"operation": hidden(page, "operation"), "payload": "{}", "reason": reason}
    for answer in (
        decide(operator, action="discard", changed={"reason": reason}),
        operator.post(f"{PATH}/{letter}/edit", **edited),
        operator.post("/dashboard/queues/reconcile", reason=reason),
    ):
        assert (answer.status_code, "in 1 to 500 characters" in answer.text) == (422, True)
    assert places(connection) == (0, 1, 0)


def test_a_row_that_undoes_work_is_under_way_until_it_is_undone(
    operator: Visitor, connection: Connection, tracking: Tracking
) -> None:
    bury(connection, tracking, "A: a")
    connection.execute("UPDATE dead_letters SET undo = true")
    connection.execute("UPDATE orders SET version = 2, status_sequence = 2, status = 'cancelled'")
    place = decide(operator, action="replay").headers["location"]

    def is_finished() -> bool:
        return "All of them have an outcome." in operator.get(place).text

    assert not is_finished()
    connection.execute("UPDATE outbox SET published_at = clock_timestamp()")
    assert not is_finished()
    row_id = connection.execute("SELECT id FROM outbox").fetchone()
    assert row_id
    outbox.finish_undo(connection, row_id[0])
    assert is_finished()


def test_a_page_is_there_after_the_database_has_cut_its_connections(
    connection: Connection, tracking: Tracking, database_url: str
) -> None:
    [letter] = bury(connection, tracking, "A: a")
    with open_pool(database_url, application_name="pages", size=1, options={}, timeout=5) as pool:
        dead_letters, actions = DeadLetters(pool, wake_up=lambda: None), Actions(pool)
        asks: list[Callable[[], int]] = [
            lambda: dead_letters.look(Selection(), before=None, size=1).count,
            lambda: dead_letters.get(letter).attempts - 4,
            lambda: dead_letters.count(Selection()),
            lambda: dead_letters.discard(
                Selection(), action=OperatorAction(operator="ada", reason="old")
            ),
            lambda: len(actions.list(before=None, limit=9)),
        ]
        for ask in asks:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'pages' AND datname = current_database()"
            )
            assert ask() == 1
        pool.close()
        with pytest.raises(UnavailableError):
            dead_letters.get(letter)


def test_a_message_without_a_row_is_shown_as_it_is_and_not_replayed(
    operator: Visitor, connection: Connection
) -> None:
    connection.execute(
        "INSERT INTO dead_letters (queue, body, publications, attempts, error_type, error,"
        " traceback) VALUES ('orders.processing', %s, 0, 0, 'E', 'unreadable', '')",
        (b"\xff<script>",),
    )
    row = connection.execute("SELECT id FROM dead_letters").fetchone()
    assert row
    page = operator.get(f"{PATH}/{row[0]}").text
    assert "\\xff&lt;script&gt;" in page
    preview = operator.post(f"{PATH}/preview", action="replay", id=row[0]).text
    assert "1 of those you chose are messages" in preview
    assert decide(operator, action="replay", id=row[0]).status_code == 303
    assert places(connection) == (0, 1, 0)


@pytest.mark.parametrize("part", ["preview", "decide", "1/edit"])
def test_who_may_only_read_decides_nothing(
    app: Any, pool: ConnectionPool, connection: Connection, tracking: Tracking, part: str
) -> None:
    reader = visitor(app, pool, Scope.ORDERS_READ)
    bury(connection, tracking, "A: a")
    page = reader.get(PATH)
    assert page.status_code == 200
    assert "Replay" not in page.text
    fields = {"action": "discard", "reason": "x", "operation": f"dashboard-{'a' * 16}"}

    assert reader.post(f"{PATH}/{part}", **fields, payload="{}").status_code == 403

    assert places(connection) == (0, 1, 0)


@pytest.mark.parametrize(
    ("statement", "parameters", "indexes"),
    [
        (
            "measure_replay",
            {"acted_at": "2026-01-01", "stages": ["processing"]},
            {
                *("order_incidents_replayed_idx", "order_incidents_order_id_number_idx"),
                *("orders_pkey", "outbox_due_idx", "outbox_in_flight_idx"),
            },
        ),
        ("get_dead_letters", {"ids": [1, 2]}, {"dead_letters_pkey"}),
        ("group_dead_letters", {"ids": [1, 2]}, {"dead_letters_pkey"}),
    ],
)
def test_an_index_serves_what_the_pages_ask(
    connection: Connection, statement: str, parameters: dict[str, Any], indexes: set[str]
) -> None:
    connection.execute("SET enable_seqscan = off")  # there is too little for the planner
    query = statements.load("dead_letters.sql")[statement]
    plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}", parameters))
    assert "Seq Scan" not in plan
    for index in indexes:
        assert index in plan


def test_ten_thousand_are_looked_at_and_replayed_with_the_rights_of_the_api(
    settings: Settings, connection: Connection, tracking: Tracking, database_url: str
) -> None:
    bury(connection, tracking, *[f"{'ABC'[n % 3]}: failed" for n in range(10_000)])
    session = {"role": "slimtrack_api"}
    with open_pool(
        database_url, application_name="api", size=2, options=session, timeout=5
    ) as pool:
        token = Access(tracking._pool).create_key(  # noqa: SLF001 - the API makes no keys
            tenant="default", name="test", scopes=[Scope.OPERATOR]
        )
        operator = Visitor(dashboard_app(settings, pool, tracking))
        operator.sign_in(token)
        page = operator.get(PATH).text
        assert "10\N{NARROW NO-BREAK SPACE}000 in all" in page
        assert page.count('type="checkbox" name="id"') == 50
        typed = {"typed": "10000"}
        place = decide(operator, action="replay", changed=typed).headers["location"]
        assert places(connection) == (10_000, 0, 0)
        assert "10\N{NARROW NO-BREAK SPACE}000" in operator.get(place).text
