"""The examples of docs/guides/amem.md, docs/guides/lightmem.md and docs/guides/memoryos.md run as they are printed."""

import re

import pytest

from tests.conftest import ROOT

EXAMPLE = re.compile(r"<!-- example -->\n```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("amem", "memory content: I moved to Oslo last week."),
        ("lightmem", "2023-06-03T10:00:00.000 Sat I moved to Oslo."),
        ("memoryos", "0."),
    ],
)
def test_the_example_of_a_page_runs(page, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    [example] = EXAMPLE.findall((ROOT / "docs/guides" / f"{page}.md").read_text("utf-8"))
    exec(compile(example, f"docs/guides/{page}.md", "exec"), {})
    assert says in capsys.readouterr().out
