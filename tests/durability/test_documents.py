"""The durability statement names, for each of its sentences, the test that proves it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

PROOF = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
TESTS = {
    (path.name, node.name)
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.parse(path.read_text("utf-8")).body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
}


@pytest.mark.parametrize("name", ["durability.md", "forgetting.md", "tools.md"])
def test_every_test_that_a_page_names_is_there(name):
    named = set(PROOF.findall((ROOT / "docs" / name).read_text("utf-8")))
    assert named
    assert named - TESTS == set()


def test_every_promise_of_the_statement_names_its_test():
    text = (ROOT / "docs" / "durability.md").read_text("utf-8")
    promises = re.findall(r"^- .*(?:\n  .*)*", text, flags=re.MULTILINE)
    assert len(promises) > 15
    assert [each for each in promises if not PROOF.search(each)] == []
