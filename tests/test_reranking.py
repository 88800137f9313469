"""`search(rerank=True)`: the best hits, ordered by a second model."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import evomem
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import system_named
from evomem.adapter import Adapter
from evomem.cli import main
from evomem.errors import CheckpointError, EncoderError, MissingExtra, QueryError, StoreError
from evomem.reranking import DEPTH, CrossEncoderReranker, EncoderReranker, load_reranker

TURNS = [f"On day {number} I ate {number * 'a very '}good soup." for number in range(1, 41)]
QUESTION = "When did I eat a good soup?"


class ByLength:
    """Scores a text by its length: the longest is first."""

    def scores(self, query, texts):
        return np.array([len(text) for text in texts], np.float32)


class Indifferent:
    """Gives every text the same score."""

    def scores(self, query, texts):
        return np.zeros(len(texts), np.float32)


def memory_with(reranker, turns=TURNS):
    memory = evomem.open(":memory:", encoder="hash", reranker=reranker).memory("alice")
    memory.add_many(evomem.Turn(user=text) for text in turns)
    return memory


def seqs(hits):
    return [hit.seq for hit in hits]


def test_the_best_hits_are_in_the_order_of_the_re_ranker():
    memory = memory_with(ByLength())
    hits = memory.search(QUESTION, DEPTH, rerank=True)
    assert sorted(seqs(hits)) == sorted(seqs(memory.search(QUESTION, DEPTH)))
    lengths = [len(hit.text) for hit in hits]
    assert lengths == sorted(lengths, reverse=True)
    assert [hit.parts["rerank"] for hit in hits] == lengths


def test_the_scores_of_the_search_stay():
    memory = memory_with(ByLength())
    before = {hit.seq: hit for hit in memory.search(QUESTION, DEPTH)}
    for hit in memory.search(QUESTION, DEPTH, rerank=True):
        assert hit.score == before[hit.seq].score
        assert hit.relevance == before[hit.seq].relevance
        assert {**before[hit.seq].parts, "rerank": hit.parts["rerank"]} == hit.parts


def test_hits_beyond_the_depth_follow_in_the_order_of_the_search():
    memory = memory_with(ByLength())
    hits = memory.search(QUESTION, 40, rerank=True)
    assert seqs(hits[DEPTH:]) == seqs(memory.search(QUESTION, 40)[DEPTH:])
    assert ["rerank" in hit.parts for hit in hits] == [True] * DEPTH + [False] * (40 - DEPTH)


def test_the_best_of_all_candidates_is_the_first_however_few_hits_are_asked_for():
    memory = memory_with(ByLength())
    assert seqs(memory.search(QUESTION, 1, rerank=True)) == seqs(
        memory.search(QUESTION, DEPTH, rerank=True)[:1]
    )


@pytest.mark.parametrize("mode", ["hybrid", "evolvable", "lexical"])
def test_equal_scores_keep_the_order_of_the_search(mode):
    memory = memory_with(Indifferent())
    candidates = memory.search(QUESTION, DEPTH, mode=mode)
    assert seqs(memory.search(QUESTION, 7, mode=mode, rerank=True)) == seqs(candidates[:7])


def test_a_memory_without_hits_asks_no_re_ranker():
    class Failing:
        def scores(self, query, texts):
            raise AssertionError

    assert memory_with(Failing(), []).search(QUESTION, rerank=True) == []


def test_a_context_and_an_adapter_show_the_turns_that_the_re_ranker_prefers():
    memory = memory_with(ByLength())
    longest = max(
        (hit.record for hit in memory.search(QUESTION, DEPTH)), key=lambda record: len(record.text)
    )
    shown = memory.context(QUESTION, rerank=True, max_tokens=len(longest.text.split()) + 20)
    assert longest.id in shown.ids
    [hit] = Adapter(memory, strict=True, rerank=True).search(QUESTION, 1)
    assert hit.seq == longest.seq
    assert longest.id in memory.answer(QUESTION, rerank=True, max_tokens=150).ids


def test_the_re_ranker_runs_outside_of_transactions():
    reading = []

    class Watching:
        def scores(self, query, texts):
            reading.append(memory._engine.store.in_snapshot)
            return np.zeros(len(texts), np.float32)

    memory = memory_with(Watching(), TURNS[:3])
    memory.search(QUESTION, rerank=True)
    memory.context(QUESTION, rerank=True)
    assert reading == [False, False]


def test_without_a_re_ranker_the_error_says_where_to_name_one():
    with pytest.raises(QueryError, match=r"evomem\.open\(\.\.\., reranker=\)"):
        memory_with(None).search(QUESTION, rerank=True)


@pytest.mark.parametrize("value", ["cross-encoder/x", 1, None])
def test_a_search_names_no_model(value):
    memory = memory_with(ByLength())
    with pytest.raises(QueryError, match="rerank must be True or False"):
        memory.search(QUESTION, rerank=value)
    with pytest.raises(QueryError, match="rerank must be True or False"):
        Adapter(memory, rerank=value)


@pytest.mark.parametrize("scores", [np.zeros(1), np.full(3, np.nan), np.zeros((3, 1))])
def test_unusable_scores_are_refused(scores):
    class Broken:
        def scores(self, query, texts):
            return scores

    with pytest.raises(EncoderError, match="the re-ranker Broken gave unusable scores for 3 texts"):
        memory_with(Broken(), TURNS[:3]).search(QUESTION, rerank=True)


def test_an_object_that_scores_nothing_is_refused():
    with pytest.raises(EncoderError, match=r"wrap a cross-encoder in evomem\.reranking\."):
        evomem.open(":memory:", encoder="hash", reranker=object())  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="is a service, which has its own encoder, re-ranker"):
        evomem.open("http://127.0.0.1:1", reranker="hash")


def test_an_encoder_reads_the_candidates_one_after_another():
    texts = [f"User: {text}" for text in TURNS[:5]]
    reranker = load_reranker("hash")
    assert isinstance(reranker, EncoderReranker)
    memory = memory_with(None, texts)
    cosines = {hit.seq: hit.score for hit in memory.search(QUESTION, mode="evolvable")}
    assert reranker.scores(QUESTION, texts) == pytest.approx(
        [cosines[seq] for seq in range(1, 6)], abs=0.01
    )


def test_the_command_re_ranks(tmp_path, capsys):
    file = str(tmp_path / "agent.db")
    with evomem.open(file, encoder="hash") as database:
        database.memory("default").add_many(evomem.Turn(user=text) for text in TURNS[:5])
    arguments = ["search", QUESTION, "--db", file, "--json"]
    assert main([*arguments, "--reranker", "hash"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    scores = [hit["parts"]["rerank"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert main([*arguments, "--rerank"]) == 2
    assert "evomem serve --reranker MODEL" in capsys.readouterr().err


def test_a_benchmark_ranks_with_a_re_ranker():
    turns = [evomem.Turn(user=text) for text in TURNS[:5]]
    system = system_named("evomem/hybrid/hash+rerank:hash", Encoders())
    memory = memory_with("hash", TURNS[:5])
    hits = memory.search(QUESTION, 3, rerank=True)
    assert list(system.index(turns)(QUESTION, 3)) == [hit.seq - 1 for hit in hits]
    assert system.fingerprint != system_named("evomem/hybrid/hash", Encoders()).fingerprint


# cross-encoders ----------------------------------------------------------------------------


def tiny_cross_encoder(folder, labels=1):
    """Save a random BERT that scores pairs, as transformers writes it."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    folder.mkdir()
    words = sorted({word for text in [*TURNS, QUESTION] for word in text.lower().split()})
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "user", ":"]
    names = [*marks, *(word.strip(".?") for word in words)]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=1.0,
        num_labels=labels,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(vocab=vocabulary, model_max_length=64)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_cross_encoder(tmp_path_factory.mktemp("models") / "tiny")


def test_a_cross_encoder_is_named_by_its_folder_or_given_as_an_object(folder):
    library = pytest.importorskip("sentence_transformers")
    model = library.CrossEncoder(str(folder))
    by_name = memory_with(str(folder)).search(QUESTION, 5, rerank=True)
    by_object = memory_with(CrossEncoderReranker(model)).search(QUESTION, 5, rerank=True)
    assert [(hit.seq, hit.parts) for hit in by_name] == [(hit.seq, hit.parts) for hit in by_object]
    candidates = memory_with(None).search(QUESTION, DEPTH)
    scores = model.predict([(QUESTION, hit.text) for hit in candidates])
    assert len(set(scores.tolist())) > DEPTH / 2
    order = np.argsort(-scores, kind="stable")[:5]
    assert seqs(by_name) == [candidates[place].seq for place in order]
    assert [hit.parts["rerank"] for hit in by_name] == pytest.approx(scores[order].tolist())


def test_a_cross_encoder_with_several_labels_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="gives 3 numbers for a text"):
        load_reranker(str(tiny_cross_encoder(tmp_path / "three", labels=3)))


def test_a_pickled_cross_encoder_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_reranker(str(tmp_path))


def test_a_model_that_is_nowhere_is_an_error():
    with pytest.raises(EncoderError, match="a model's folder, or a hub id"):
        load_reranker("/nowhere")


def test_without_sentence_transformers_the_error_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"\[static\]"):
        load_reranker(str(folder))
