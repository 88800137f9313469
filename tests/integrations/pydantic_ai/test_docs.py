"""The example of docs/guides/pydantic-ai.md runs as it stands."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("pydantic_ai", reason="the extra [pydantic-ai] is not installed")

from tests.conftest import ROOT


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "guides" / "pydantic-ai.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/guides/pydantic-ai.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.splitlines() == [
        "In Oslo.",
        "2",
        "I moved to Oslo last week. / Noted.",
        "Thanks. / Noted.",
        "Where do I live? / In Oslo.",
    ]
