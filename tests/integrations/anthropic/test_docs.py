"""The example of docs/guides/anthropic.md runs as it stands."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("anthropic", reason="the extra [anthropic] is not installed")

from tests.conftest import ROOT
from tests.integrations.anthropic.test_tool import COMMANDS


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "guides" / "anthropic.md").read_text("utf-8")
    assert f"the same {len(COMMANDS)} commands" in page
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/guides/anthropic.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.splitlines()[1:] == [
        "21B\t/memories",
        "21B\t/memories/preferences.md",
        "Here's the content of /memories/preferences.md with line numbers:",
        "     1\tAlice drinks coffee.",
        "     2\t",
        "Alice drinks tea.",
        "Alice drinks coffee.",
        "/memories/preferences.md",
    ]
