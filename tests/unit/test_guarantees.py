"""The lists of what is promised name tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
#: A file or a folder, or the bare name of a file beside the one before it.
PATH = re.compile(r"`(tests/[\w/.]+|\w+\.py)`")
PROMISES = {
    "README.md": "## What it promises, and the test that proves it",
    "README.pt-BR.md": "## O que promete, e o teste que o prova",
}


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


def proofs(readme: str) -> list[list[Path]]:
    """Return what each row of a README's table of promises names in its second column."""
    text = (ROOT / readme).read_text()
    _, _, section = text.partition(f"\n{PROMISES[readme]}\n")
    lines = section.partition("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    named = []
    for row in rows:
        paths: list[Path] = []
        for name in PATH.findall(row.rsplit(" | ", 1)[1]):
            paths.append(ROOT / name if "/" in name else paths[-1].with_name(name))
        named.append(paths)
    return named


@pytest.mark.parametrize("readme", PROMISES)
def test_every_proof_that_a_readme_names_exists(readme: str) -> None:
    named = proofs(readme)

    assert len(named) > 10
    assert all(named), "a promise names no test"
    assert not [path for paths in named for path in paths if not path.exists()]


def test_both_readmes_name_the_same_proofs() -> None:
    english, portuguese = map(proofs, PROMISES)
    assert english == portuguese
