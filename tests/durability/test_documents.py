"""The durability statement names, for each of its sentences, the test that proves it."""

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


@pytest.mark.parametrize("name", ["durability.md", "forgetting.md", "integrity.md", "tools.md"])
def test_every_test_that_a_page_names_is_there(name):
    named = set(PROOF.findall((ROOT / "docs" / name).read_text("utf-8")))
    assert named
    assert named - TESTS == set()


def test_every_promise_of_the_statement_names_its_test():
    text = (ROOT / "docs" / "durability.md").read_text("utf-8")
    promises = re.findall(r"^- .*(?:\n  .*)*", text, flags=re.MULTILINE)
    assert len(promises) > 15
    assert [each for each in promises if not PROOF.search(each)] == []


def test_the_loop_for_retention_periods_forgets_by_the_nearest_one():
    text = (ROOT / "docs" / "forgetting.md").read_text("utf-8")
    [loop] = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "days =" in code]
    now = datetime.now(timezone.utc)
    with evomem.open(":memory:", HashEncoder(16)) as db:
        names = [("acme", "alice"), ("acme", "trial", "bob"), ("other",)]
        for name in names:
            for age in (400, 100, 1):
                said = f"said {age} days ago"
                db.memory(*name).add(said, id=str(age), time=now - timedelta(days=age))
        exec(compile(loop, "forgetting.md", "exec"), {"db": db})
        left = [[record.id for record in db.memory(*name).history()] for name in names]
        assert left == [["100", "1"], ["1"], ["400", "100", "1"]]
