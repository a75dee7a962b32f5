"""What a migration may do, so that the last version goes on working beside the next."""

import re

import pytest

from slimtrack.sql.migrate import packaged

#: Those of the last version, which came with all processes stopped.
RELEASED = 7
#: What code that does not know of it could trip over. What is left behind goes a version later: who
#: takes it away then writes here that it may go.
FORBIDDEN = {
    "takes away": r"\bDROP (TABLE|COLUMN|VIEW|FUNCTION|TYPE|SCHEMA|DEFAULT)\b",
    "renames": r"\bRENAME\b",
    "changes a type": r"\bALTER (COLUMN )?\w+ (SET DATA )?TYPE\b",
    "demands a value": r"\bSET NOT NULL\b"
    r"|\bADD COLUMN (?:(?!,|;|DEFAULT).)*\bNOT NULL\b(?! DEFAULT)",
    "forbids what was allowed": r"\bADD CONSTRAINT\b|\bADD CHECK\b"
    r"|\bREVOKE\b[^;]*\bFROM (?!PUBLIC)",
}
NEW = [each for each in packaged() if int(each.version) > RELEASED]


def offences(text: str) -> list[str]:
    statements = " ".join(re.sub(r"--.*", "", text).split())
    return [what for what, how in FORBIDDEN.items() if re.search(how, statements, re.IGNORECASE)]


@pytest.mark.parametrize("name", [each.name for each in NEW])
def test_a_migration_only_adds(name: str) -> None:
    [migration] = [each for each in NEW if each.name == name]
    assert offences(migration.text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER TABLE orders DROP COLUMN a", ["takes away"]),
        ("ALTER TABLE orders RENAME a TO b", ["renames"]),
        ("ALTER TABLE orders ALTER COLUMN a TYPE bigint", ["changes a type"]),
        ("ALTER TABLE orders ALTER a SET NOT NULL", ["demands a value"]),
        ("ALTER TABLE orders ADD COLUMN a text\n NOT NULL", ["demands a value"]),
        ("ALTER TABLE orders ADD COLUMN a text NOT NULL DEFAULT ''", []),
        ("ALTER TABLE orders ADD COLUMN a text, ADD COLUMN b text", []),
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (a > 0)", ["forbids what was allowed"]),
        ("REVOKE SELECT ON orders FROM slimtrack_api", ["forbids what was allowed"]),
        ("CREATE TABLE more (a text NOT NULL); -- DROP TABLE orders", []),
    ],
)
def test_what_the_last_version_could_trip_over_is_found(text: str, expected: list[str]) -> None:
    assert offences(text) == expected
