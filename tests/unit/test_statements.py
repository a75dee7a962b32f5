"""The named statements, as they are installed with the package."""

import re
from importlib import import_module
from importlib.resources import files

import pytest

from slimtrack.sql import statements

QUERIES = files("slimtrack.sql") / "queries"
FILE_NAMES = [entry.name for entry in QUERIES.iterdir()]


def test_a_file_is_split_into_statements_without_their_comments() -> None:
    text = (
        "What stands before the first name is no statement.\n"
        "-- find_one --\n-- Says why.\nSELECT 1\n  -- Says more.\n WHERE 'a;--b' <> '';\n\n"
        "-- find_two --\nSELECT 2;\n"
    )

    assert statements.parse(text) == {
        "find_one": "SELECT 1\n WHERE 'a;--b' <> ''",
        "find_two": "SELECT 2",
    }


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="find_one stands twice"):
        statements.parse("-- find_one --\nSELECT 1;\n-- find_one --\nSELECT 2;\n")


def test_the_package_carries_its_statements() -> None:
    assert {"orders.sql", "outbox.sql"} <= set(FILE_NAMES)


@pytest.mark.parametrize("file_name", FILE_NAMES)
def test_every_named_statement_is_loaded_whole_and_has_its_function(file_name: str) -> None:
    text = (QUERIES / file_name).read_text("utf-8")
    names = re.findall(r"^\W*--\W*(\w+)\W*--", text, re.MULTILINE)
    module = import_module(f"slimtrack.sql.{file_name.removesuffix('.sql')}")

    loaded = statements.load(file_name)

    # A part of other statements is not one itself.
    assert list(loaded) == [name for name in names if name not in statements.PARTS]
    assert loaded
    for name, statement in loaded.items():
        assert re.match(r"SELECT|INSERT|UPDATE|DELETE|WITH|EXPLAIN", statement), name
        assert ";" not in statement, name
        assert not any(part in statement for part in statements.PARTS), name
        assert getattr(module, name).__module__ == module.__name__


@pytest.mark.parametrize("file_name", FILE_NAMES)
def test_the_lines_of_a_file_of_statements_are_as_long_as_those_of_the_code(file_name: str) -> None:
    lines = (QUERIES / file_name).read_text("utf-8").splitlines()
    assert max(map(len, lines)) <= 100
