"""What docs/guides/training.md shows, works."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

import pytest

from evomem.cli import main
from evomem.cli.arguments import make_parser
from evomem.training.settings import EvoSettings, MiniSettings, flag
from tests.conftest import ROOT

PAGE = (ROOT / "docs/guides/training.md").read_text("utf-8")


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_way_from_a_chat_to_a_trained_encoder_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.json").write_text(blocks("json")[0], "utf-8")
    write, search = blocks("python")
    exec(write, {})
    command = next(line for line in blocks("sh")[0].splitlines() if line.startswith("evomem"))
    assert main([*shlex.split(command)[1:], "--steps", "2"]) == 0
    exec(search, {})
    assert capsys.readouterr().out.splitlines()[-1] == "User: I moved to Oslo in March."


@pytest.mark.parametrize("settings", [MiniSettings, EvoSettings])
def test_every_setting_is_explained(settings):
    table = PAGE.partition("## Settings")[2].partition("## EvoEmbedding")[0]
    for field in fields(settings):
        assert f"`{flag(field.name)}`" in table


def test_every_command_can_be_parsed():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    words = [shlex.split(re.sub(r"^(evomem|accelerate launch -m evomem\.training)", "", line))
             for line in lines if "evomem" in line and not line.startswith("pip")]  # fmt: skip
    assert len(words) >= 3
    for item in words:
        assert make_parser().parse_args(["train", *[w for w in item if w != "train"]]).data
