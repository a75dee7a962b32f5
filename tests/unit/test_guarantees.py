"""The list of guarantees names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_the_guarantees_name_exists() -> None:
    lines = (ROOT / "docs/guarantees.md").read_text().splitlines()
    promises = [line for line in lines if line.startswith("| ")][1:]
    named = [NAMED.search(line) for line in promises]

    assert len(promises) > 10
    assert all(named), "a promise names no test"
    for found in filter(None, named):
        tree = ast.parse((ROOT / found[1]).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert found[2] in functions, found[0]
