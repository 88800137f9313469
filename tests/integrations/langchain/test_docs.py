"""The examples of the two pages run as they stand."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        (
            "langchain.md",
            ["In Oslo.", "monday User: I moved to Oslo last week.", "tuesday User: Where do I live?", "b"],
        ),
        ("langgraph.md", ["Alice lives in Oslo.", "['home', 'cat']", "3"]),
    ],
)  # fmt: skip
def test_the_example_of_a_page_runs_as_it_stands(page, printed, tmp_path, monkeypatch, capsys):
    match = re.search(
        r"```python\n(.*?)```", (ROOT / "docs/guides" / page).read_text("utf-8"), re.DOTALL
    )
    assert match
    monkeypatch.chdir(tmp_path)
    exec(compile(match[1], page, "exec", dont_inherit=True), {})
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(printed)
