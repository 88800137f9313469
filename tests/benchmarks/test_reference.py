"""The reference's own code, with our weights. It needs a checkout, and the package peft:

EVOMEM_REFERENCE_CHECKOUT   https://github.com/MiG-NJU/EvoEmbedding
"""

import importlib.util
import json
import os
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.cost import speed, speed_published
from benchmarks.cost.reference import Reference, conversation, load_code, question
from benchmarks.cost.streaming import QUERY_TOKENS, TEXT_TOKENS, TURN_TOKENS
from evomem.evoembedding.config import CheckpointConfig, DecoderConfig
from evomem.evoembedding.fields import Fields
from evomem.evoembedding.model import EvoEmbedding
from evomem.evoembedding.reader import Reader
from evomem.evoembedding.tokens import Segment, SpecialIds, Tokens
from evomem.state import Spec, State
from tests.evoembedding.tiny import BASES, randomise

# transformers says that a name which the reference uses is old
ignored = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def checkout() -> Path:
    folder = os.environ.get("EVOMEM_REFERENCE_CHECKOUT")
    if not folder:
        pytest.skip("set EVOMEM_REFERENCE_CHECKOUT to a checkout, see this file's first lines")
    if importlib.util.find_spec("peft") is None:
        pytest.skip("the reference itself needs peft")
    return Path(folder)


@ignored
@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "qwen3_5"])
def test_the_reference_gives_a_stream_s_embeddings_on_both_families(checkout, family):
    """Twenty turns: two chunks, and a queue that overflows."""
    described = {**BASES[family], "vocab_size": 151_936}
    decoder = DecoderConfig.parse(Fields(described, "here"))
    model = EvoEmbedding(CheckpointConfig("", 4, 40, 4, 8.0, False), decoder, 24).eval()
    model.load_state_dict(randomise(model, torch.Generator().manual_seed(0)))
    theirs = Reference(load_code(checkout), model)
    turns, asked = conversation(20), question(20)

    reader = Reader(model, Spec("random", "random", 24, 4, decoder.hidden_size, 40))
    start: State[Segment] = State.empty(reader.spec)
    readings = reader.read(start, turns)
    pairs = zip(turns, readings, strict=True)
    *_, state = accumulate(pairs, lambda state, pair: state.after(*pair), initial=start)
    rows = [reading.embedding for reading in readings]
    ours = np.stack([*rows, reader.embed(state, [asked])[0]])

    for logits in (False, True, False):
        np.testing.assert_allclose(theirs.embed(turns, asked, logits), ours, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2  # as nothing else would show


@ignored
@pytest.mark.slow
def test_speed_compares_the_reference_with_the_stream(checkout, tmp_path):
    out = tmp_path / "speed.json"
    arguments = "--no-mini --model tiny --part stream --rebuild 2 --seconds 0".split()
    argv = [*arguments, "--reference", str(checkout), "--out", str(out)]
    assert speed.main(argv) == 0
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    for what in ("reference", "reference, no logits"):
        assert rows[what]["turns"] == 2
        assert rows[what]["cosine"] > 1 - 1e-5
        assert rows[what]["ratio"] > 0


@ignored
@pytest.mark.slow
def test_speed_fails_where_the_reference_disagrees(checkout, monkeypatch, capsys):
    """As it does if we ask another question than it is asked."""
    right = speed_published._turn_and_query

    def wrong(reader, state, turn, n):
        return right(reader, state, turn, n + 1)

    monkeypatch.setattr(speed_published, "_turn_and_query", wrong)
    argv = "--no-mini --model tiny --part stream --rebuild 2 --seconds 0 --reference".split()
    assert speed.main([*argv, str(checkout)]) == 1
    assert "the reference's embeddings differ from ours" in capsys.readouterr().err


def test_a_folder_that_is_not_a_checkout_is_refused_before_anything_is_measured(tmp_path, capsys):
    assert speed.main(["--model", "tiny", "--reference", str(tmp_path)]) == 2
    assert f"{tmp_path} is not a checkout of the reference" in capsys.readouterr().err


def test_a_missing_package_of_the_reference_is_named(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "evo_embedding.py").write_text("import a_package_that_nobody_has")
    assert speed.main(["--model", "tiny", "--reference", str(tmp_path)]) == 2
    assert "No module named 'a_package_that_nobody_has'" in capsys.readouterr().err


def test_the_reference_is_measured_beside_a_model_only(tmp_path, capsys):
    with pytest.raises(SystemExit):
        speed.main(["--reference", str(tmp_path)])
    assert "name it with --model" in capsys.readouterr().err


def test_a_random_conversation_is_split_into_its_turns():
    turns = conversation(3)
    ids = [token for turn in turns for token in turn.ids]
    split = _tokens().segments([*ids, *conversation(4)[3].ids])
    assert split[:-1] == [list(turn.ids) for turn in turns]
    assert {len(turn.ids) for turn in turns} == {TURN_TOKENS}
    assert {len(turn.text) for turn in turns} == {TEXT_TOKENS}
    assert len(question(0)) == QUERY_TOKENS


def _tokens() -> Tokens:
    """The rules of splitting alone: with Qwen3's ids, and no tokenizer."""
    tokens = object.__new__(Tokens)
    tokens.special = SpecialIds()
    return tokens
