"""The example of docs/guides/agent-framework.md runs as it stands."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("agent_framework", reason="the extra [agent-framework] is not installed")

from tests.conftest import ROOT


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "guides" / "agent-framework.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/guides/agent-framework.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.splitlines() == [
        "shown: False",
        "shown: True",
        "In Oslo.",
        "I moved to Oslo last week. / Noted.",
        "Where do I live? / In Oslo.",
    ]
