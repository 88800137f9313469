"""Pages name the tests that prove what they promise; the durability page does so in every item."""

from __future__ import annotations

import ast
import re
from datetime import datetime, timedelta, timezone

import pytest

import evomem
from evomem.encoder import HashEncoder
from tests.conftest import ROOT

PROOF = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
TESTS = {
    (path.name, node.name)
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.parse(path.read_text("utf-8")).body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
}


@pytest.mark.parametrize(
    "name",
    [
        "operations/deployment.md",
        "operations/durability.md",
        "operations/forgetting.md",
        "operations/integrity.md",
        "operations/postgresql.md",
        "operations/upkeep.md",
        "guides/import.md",
        "measurements/scale.md",
    ],
)
def test_every_test_that_a_page_names_is_there(name):
    named = set(PROOF.findall((ROOT / "docs" / name).read_text("utf-8")))
    assert named
    assert named - TESTS == set()


def test_every_promise_of_the_statement_names_its_test():
    text = (ROOT / "docs/operations/durability.md").read_text("utf-8")
    footnotes = dict(re.findall(r"^\[\^(\w+)\]: (.*)", text, flags=re.MULTILINE))
    proved = {label for label, note in footnotes.items() if PROOF.search(note)}
    promises = re.findall(r"^- .*(?:\n  .*)*", text, flags=re.MULTILINE)
    assert len(promises) > 15
    assert [p for p in promises if not proved & set(re.findall(r"\[\^(\w+)\]", p))] == []


def test_the_loop_for_retention_periods_forgets_by_the_nearest_one():
    text = (ROOT / "docs/operations/forgetting.md").read_text("utf-8")
    [loop] = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "days =" in code]
    now = datetime.now(timezone.utc)
    with evomem.open(":memory:", HashEncoder(16)) as db:
        names = [("acme", "alice"), ("acme", "trial", "bob"), ("other",)]
        for name in names:
            for age in (400, 100, 1):
                texts = f"said {age} days ago"
                db.memory(*name).add(texts, id=str(age), time=now - timedelta(days=age))
        exec(compile(loop, "forgetting.md", "exec"), {"db": db})
        left = [[record.id for record in db.memory(*name).history()] for name in names]
        assert left == [["100", "1"], ["1"], ["400", "100", "1"]]
