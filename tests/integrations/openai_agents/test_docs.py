"""The example of docs/guides/openai-agents.md runs as it stands."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("agents", reason="the extra [openai-agents] is not installed")

from tests.conftest import ROOT


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "guides" / "openai-agents.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/guides/openai-agents.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.splitlines() == [
        "In Oslo.",
        "True",
        "I moved to Oslo last week. / Noted.",
        "Where do I live? / In Oslo.",
    ]
