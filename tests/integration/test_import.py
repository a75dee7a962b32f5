"""The import and track commands, as a person runs them."""

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from clients import Caller
from command import run_slimtrack

from slimtrack.commands.rows import Lines, Row, UnusableInputError, order_of, read_csv, read_jsonl
from slimtrack.domain.access import Tenant
from slimtrack.domain.errors import FieldError
from slimtrack.domain.order import Flow

EXAMPLE = Path(__file__).parents[2] / "examples/orders.csv"

TENANT = Tenant(2, "shop", Flow.REPORTED, datetime(2026, 1, 31, tzinfo=UTC))

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def slimtrack(environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs the command in a folder of its own."""

    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return run_slimtrack(*arguments, environment=environment, cwd=tmp_path, input=given)

    return run


def csv_rows(text: str | bytes, **columns: str) -> list[Row]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_csv(Lines(BytesIO(content)), columns=columns, with_metadata=True))


def test_the_example_is_placed_once_however_often_it_is_imported(
    slimtrack: Command, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    rejected = str(tmp_path / "rejected.jsonl")
    first = slimtrack("import", str(EXAMPLE), "--rejected", rejected)
    assert (first.returncode, first.stdout) == (0, "1,000 placed, 0 already there, 0 refused\n")

    again = slimtrack("import", str(EXAMPLE), "--rejected", rejected, "--json")
    assert json.loads(again.stdout) == {"placed": 0, "already_there": 1000, "refused": 0}

    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1000,)
    assert connection.execute(
        "SELECT metadata ->> 'city' FROM orders WHERE reference = 'WEB-2026-00001'"
    ).fetchone() == ("Kraków",)
    assert not Path(rejected).exists()


def test_refused_rows_are_kept_with_their_line_and_reason_and_the_rest_is_placed(
    slimtrack: Command, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    given = (
        '{"description": "One", "reference": "1"}\n\n{"description": " "}\nnonsense\n'
        '{"description": "Two", "status": "delivered"}\n'
        '{"description": "1 again", "reference": "1"}'
    )
    done = slimtrack("import", "-", given=given)

    assert done.returncode == 1
    assert done.stdout == "1 placed, 1 already there, 3 refused (see stdin.rejected.jsonl)\n"
    refused = [
        json.loads(line) for line in (tmp_path / "stdin.rejected.jsonl").read_text().splitlines()
    ]
    assert [(each["line"], each["reason"].split(" ")[0]) for each in refused] == [
        (3, "description"),
        (4, "is"),
        (5, "has"),
    ]
    assert connection.execute("SELECT description FROM orders").fetchall() == [("One",)]


def test_orders_are_the_tenants_and_move_as_the_row_or_the_tenant_says(
    slimtrack: Command, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    connection.execute("INSERT INTO tenants (name, flow) VALUES ('shop', 'reported')")
    csv = "description,reference,flow,city\nOne,1,,Berlin\nTwo,2,simulated,\nThree,3,fast,\n"
    done = slimtrack("import", "-", "--tenant", "shop", given=csv)
    assert (done.returncode, done.stdout.split(" (")[0]) == (
        1,
        "2 placed, 0 already there, 1 refused",
    )
    assert "flow must be simulated or reported" in (tmp_path / "stdin.rejected.jsonl").read_text()
    lines = '{"description": "Four", "flow": "reported"}\n{"description": "Five", "reference": "1"}'
    assert slimtrack("import", "-", given=lines).returncode == 0
    assert connection.execute(
        "SELECT description, name, orders.flow, metadata FROM orders"
        " JOIN tenants ON tenants.id = tenant_id ORDER BY description"
    ).fetchall() == [
        ("Five", "default", "simulated", {}),
        ("Four", "default", "reported", {}),
        ("One", "shop", "reported", {"city": "Berlin"}),
        ("Two", "shop", "simulated", {}),
    ]
    nobody = slimtrack("import", "-", "--tenant", "nobody", given=lines)
    assert (nobody.returncode, nobody.stderr) == (1, "There is no tenant 'nobody'.\n")


def test_unusable_input_is_named_and_nothing_is_placed(
    slimtrack: Command, connection: psycopg.Connection[Any]
) -> None:
    no_column = slimtrack("import", "-", given="what,who\na,b\n")
    assert no_column.returncode == 2
    assert "what, who" in no_column.stderr
    assert slimtrack("import", "nowhere.csv").returncode == 2
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_an_order_is_tracked_by_its_id(
    slimtrack: Command, connection: psycopg.Connection[Any]
) -> None:
    slimtrack("import", "-", given='{"description": "One"}')
    row = connection.execute("SELECT id FROM orders").fetchone()
    assert row

    shown = slimtrack("track", str(row[0]))
    assert shown.returncode == 0
    assert "received" in shown.stdout
    assert json.loads(slimtrack("track", str(row[0]), "--json").stdout)["sequence"] == 1

    unknown = slimtrack("track", "01a20bfd-aec6-70e5-9920-f54e91515bab")
    assert (unknown.returncode, "There is no order" in unknown.stderr) == (1, True)
    assert slimtrack("track", "nonsense").returncode == 2


def test_an_order_is_followed_until_it_is_final_also_where_late_reports_come_after(
    slimtrack: Command, caller: Caller
) -> None:
    order = caller.place()["id"]
    for status in ("processing", "in_transit", "lost", "in_transit"):
        caller.command(order, "reports", {"status": status})
    followed = slimtrack("track", order, "--follow")
    assert (followed.returncode, len(followed.stdout.splitlines())) == (0, 5)


def test_csv_is_read_as_people_write_it() -> None:
    rows = csv_rows(
        b'\xef\xbb\xbfNo;What;Note\r\n1;Box;\r\n\r\n2;"two\nlines";n\r\n3;\xff;\r\n4;Box;a;b\r\n',
        description="What",
        reference="No",
    )
    assert [(row.line, row.reason) for row in rows] == [
        (2, ""),
        (4, ""),
        (6, "is not UTF-8 in column What"),
        (7, "has 4 columns, and the header has 3"),
    ]
    assert rows[1].fields == {
        "description": "two\nlines",
        "reference": "2",
        "metadata": {"Note": "n"},
    }


def test_a_missing_column_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(UnusableInputError, match="there are a, b"):
        csv_rows("a,b\n1,2\n")


def test_a_row_that_is_too_long_is_refused_and_those_behind_it_are_read() -> None:
    long = b"description\n" + b"x" * 3_000_000 + b"\nshort\n"
    assert [(row.line, row.reason) for row in csv_rows(long)] == [
        (2, "is longer than 1 MiB"),
        (3, ""),
    ]


def test_fields_of_other_types_are_refused() -> None:
    for line in (
        '{"description": 7}',
        '{"description": "x", "reference": 7}',
        '{"description": "x", "metadata": []}',
        '{"description": "x", "flow": 7}',
        '{"description": "x", "flow": []}',
        '{"description": "x", "flow": ""}',
        '{"description": "x", "flow": "teleported"}',
        "{}",
    ):
        [row] = read_jsonl(Lines(BytesIO(line.encode())), columns={})
        with pytest.raises(FieldError):
            order_of(row, tenant=TENANT)
