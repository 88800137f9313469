"""The example of docs/guides/strands.md runs as it stands."""

from __future__ import annotations

import re

import pytest

pytest.importorskip(
    "strands", reason="strands-agents is not installed: make test-newest installs it"
)

from tests.conftest import ROOT


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "guides" / "strands.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/guides/strands.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.splitlines() == [
        "shown: False",
        "shown: True",
        "In Oslo.",
        "I moved to Oslo last week. / Noted.",
        "Where do I live? / In Oslo.",
    ]
