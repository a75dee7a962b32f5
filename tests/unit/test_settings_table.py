"""The documentation of the settings is that of the code."""

from pathlib import Path

from slimtrack.commands.config import effective_rows, markdown_table
from slimtrack.settings import declared_settings

DOCUMENT = Path(__file__).parents[2] / "docs/configuration.md"


def test_the_documentation_lists_every_setting_as_the_code_declares_it() -> None:
    table = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]

    assert len(table) > len(declared_settings())
    assert table == markdown_table(), "paste what `slimtrack config --markdown` prints"


def test_no_cell_of_the_table_breaks_it() -> None:
    assert {line.count("|") for line in markdown_table()} == {4}


def test_each_row_says_where_its_value_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("amqp://slimtrack:hush@mq.example/\n")
    rows = effective_rows(
        {
            "DATABASE_URL": "postgresql://slimtrack:hush@db.example/slimtrack",
            "AMQP_URL_FILE": str(file),
            "SLIMTRACK_SET_SIZE": "7",
            "SENTRY_DSN": "https://hush@sentry.example/7",
        },
        set_by="environment",
    )
    shown = {row.name: (row.value, row.source, row.file) for row in rows}

    assert list(shown) == [each.name for each in declared_settings()]
    assert shown["DATABASE_URL"] == (
        "postgresql://slimtrack:***@db.example/slimtrack",
        "environment",
        None,
    )
    assert shown["AMQP_URL"] == ("amqp://slimtrack:***@mq.example/", "file", str(file))
    assert shown["SENTRY_DSN"] == ("https://***@sentry.example/7", "environment", None)
    assert shown["SLIMTRACK_SET_SIZE"] == ("7", "environment", None)
    assert shown["SLIMTRACK_RATE_LIMIT"] == ("6000", "default", None)


def test_a_secret_that_is_not_set_is_not_shown_as_one() -> None:
    rows = effective_rows({}, set_by="environment")

    assert {row.name: row.value for row in rows}["SENTRY_DSN"] == ""
