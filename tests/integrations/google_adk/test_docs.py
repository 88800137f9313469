"""The example of docs/guides/google-adk.md runs as it stands."""

from __future__ import annotations

import re

import pytest

pytest.importorskip(
    "google.adk", reason="google-adk is not installed: make test-newest installs it"
)

from tests.conftest import ROOT


def test_the_example_runs_as_it_is(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "guides" / "google-adk.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/guides/google-adk.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out.splitlines() == [
        "the model was shown Monday's turn",
        "In Oslo.",
        "I moved to Oslo last week. / Noted.",
        "Where do I live? / In Oslo.",
    ]
