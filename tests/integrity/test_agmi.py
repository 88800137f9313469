"""What the public suite `agent-memory-integrity` finds, and the table in docs/operations/integrity.md."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

check = pytest.importorskip("agmi.check", reason="needs agent-memory-integrity, of the extra dev")

ACCEPTED = {
    "KeyedRead": {9},
    "KeyedAudit": set(),
    "KeyedForged": set(),
    "UnkeyedRead": {9},
    "UnkeyedAudit": set(),
    "UnkeyedForgedRead": set(range(1, 10)),
    "UnkeyedForged": set(range(1, 10)),
}
"""Of nine edits, those that are accepted."""


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_suite_finds_what_the_docs_say(name):
    adapter = check.load_adapter(f"tests.integrity.agmi_adapter:{name}")
    verdicts = [row["verdict"] for row in check.run(adapter)]
    noticed = "REPORTED" if adapter.detection_point == "audit" else "REJECTED"
    expected = ["ACCEPTED" if n in ACCEPTED[name] else noticed for n in range(1, 10)]
    assert verdicts == expected
    text = (ROOT / "docs/operations/integrity.md").read_text("utf-8")
    [row] = re.findall(rf"^\| {re.escape(adapter.name)} \|(.*)\|$", text, flags=re.MULTILINE)
    assert [cell.strip().upper() for cell in row.split("|")] == expected
