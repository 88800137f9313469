"""`python -m benchmarks scale`, on a small scale."""

import contextlib
import io
import json
import lzma
import subprocess
import sys
import zlib
from itertools import product

import numpy as np
import pytest

from benchmarks.cost import first_answer, importing, scale, scale_corpus, scale_plot
from benchmarks.cost.scale_corpus import write_corpus
from benchmarks.cost.scale_others import measure
from benchmarks.cost.scale_vectors import Texts, grown, nearest, seeds, unit
from benchmarks.reporting import report
from evomem.errors import InputError
from evomem.state import Spec
from evomem.text_encoder import TextEncoder


class Plain(TextEncoder):
    """Words in buckets, without memory."""

    parallel = False

    def __init__(self):
        self._spec = Spec("plain", "plain", dim=64)

    def count_tokens(self, text):
        return len(text.split())

    def _embed_turns(self, turns):
        return [self._embed([turn.text]) for turn in turns]

    def _embed_queries(self, queries):
        return [self._embed(texts) for texts in queries]

    def _embed(self, texts):
        rows = np.full((len(texts), 64), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.strip("?").split():
                row[zlib.crc32(word.encode()) % 64] += 1
        return unit(rows)


def in_this_process(command, **options):
    """Run `python -m benchmarks.cost.first_answer` without a new process, which would import torch."""
    assert command[1:3] == ["-m", "benchmarks.cost.first_answer"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert first_answer.main(command[3:]) == 0
    return subprocess.CompletedProcess(command, 0, output.getvalue())


@pytest.fixture
def some():
    return unit(np.random.default_rng(0).standard_normal((400, 24)).astype(np.float32))


def test_a_small_run_finds_everything_and_can_be_reported(some, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "CONCURRENT_SECONDS", 0.2)
    monkeypatch.setattr(scale, "REPEATS", 6)
    monkeypatch.setattr("subprocess.run", in_this_process)
    np.savez(tmp_path / "seeds.npz", turns=some, questions=some[:3])
    given = [
        "--memory",
        "500x25",
        "--memories",
        "3",
        "--each",
        "4",
        "--part",
        "index",
        "large",
        "small",
    ]
    given += [
        "--index",
        "5000",
        "--index-device",
        "cpu",
        "--seeds",
        str(tmp_path / "seeds.npz"),
        "--out",
        str(tmp_path / "scale.json"),
    ]
    assert scale.main(given) == 0
    assert "search p95, ms" in capsys.readouterr().out
    result = json.loads((tmp_path / "scale.json").read_text())
    assert [row["recall@10"] for row in result["index"] + result["large"]] == [1.0, 1.0]
    assert result["index"][0]["device recall@10"] == 1.0
    assert result["index"][0]["on the device, MB"] == pytest.approx(5000 * 1.25 * 24 * 4 / 1e6)
    assert result["index_device"] == "cpu"
    assert result["large"][0]["first answer, no index file: CPU s"] > 0
    assert result["small"][0]["memories"] == 3
    assert report.main([str(tmp_path), "--out", str(tmp_path)]) == 0
    assert "| cold hybrid p95, ms |" in (tmp_path / "report.md").read_text()


def test_grown_vectors_are_of_length_one_and_begin_with_the_seeds(some):
    vectors = grown(some, 1000)
    assert vectors.shape == (1000, 24)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[:400], some)
    assert np.array_equal(vectors, grown(some, 1000))


def test_the_nearest_are_found_across_blocks():
    rows = np.random.default_rng(1).standard_normal((70_000, 4)).astype(np.float32)
    best = np.argsort(-(rows @ rows[5]))[:10]
    assert nearest(rows, rows[5:6], 10) == [set(best.tolist())]


def test_other_systems_are_measured_or_skipped_with_a_reason(some, tmp_path, monkeypatch):
    right = nearest(some, some[:5], 10)
    assert measure("FAISS flat", some, some[:5], right, tmp_path)["recall@10"] == 1.0
    monkeypatch.setitem(sys.modules, "sqlite_vec", None)
    assert "sqlite_vec" in measure("sqlite-vec", some, some[:5], right, tmp_path)["skipped"]


def test_without_seeds_and_corpora_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(InputError, match="pass --corpora"):
        seeds(tmp_path / "no.npz", tmp_path)


def test_texts_are_as_long_as_asked_for():
    texts = Texts()
    assert len(texts.text(500).split()) == pytest.approx(375, rel=0.2)
    assert len(texts.question().split()) == 4


LETTERS = "BCDFGHKL"
STREAMS = [
    {
        "id": letter,
        "turns": [
            {"speaker": "document", "text": f"this is {letter * 3} {number}. " * 70 + fact}
            for number, fact in enumerate(("", f"{letter}enno lives in {letter}onn. " * 3, ""))
        ],
        "queries": [
            {"question": f"Where does {letter}enno live?", "evidence": [1]},
            {"question": "Who lives where?", "evidence": [1]},
            {"question": f"Where do {letter}enno and others live?", "evidence": [1, 2]},
        ],
    }
    for letter in LETTERS
]


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    monkeypatch.setattr(scale_corpus, "COPIES", 2)  # there are few names
    monkeypatch.setattr(importing, "COPIES", 2)
    folder = tmp_path / "corpora"
    folder.mkdir()
    with lzma.open(folder / "some.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(stream) + "\n" for stream in STREAMS)
    return folder


def test_copies_of_texts_have_other_names_and_questions_about_them(corpora, tmp_path):
    corpus = write_corpus(tmp_path / "texts", corpora, 20)  # the corpora are 12 turns
    texts = list(corpus.texts(0, 20))
    assert len(corpus) == len(texts) == 20
    assert all(1750 <= len(text) < 3500 for text in texts)
    questions = corpus.questions(20, 100)
    persons = {question.text.split()[2] for question in questions}
    towns = {letter + "onn" for letter in LETTERS}
    assert persons - towns == {letter + "enno" for letter in LETTERS}  # of the original
    assert persons & towns  # of the copy
    for question, turn in questions:
        person = question.split()[2]
        other = person[0] + ("enno" if person in towns else "onn")
        assert f"{person} lives in {other}." in texts[turn]
    assert {q.turn for q in corpus.questions(5, 100)} <= set(range(5))
    with pytest.raises(InputError, match="would be repeated 2 times"):
        write_corpus(tmp_path / "more", corpora, 60)
    with pytest.raises(InputError, match="holds 20 turns, not 21"):
        write_corpus(tmp_path / "texts", corpora, 21)


def test_costs_with_an_encoder_are_measured_next_to_plain_rag(
    corpora, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(scale, "load_encoder", lambda name: Plain())
    out, plot = tmp_path / "texts.json", tmp_path / "costs.svg"
    options = ["--part", "texts", "text-memories", "--corpora", str(corpora), "--questions", "9"]
    options += ["--memories", "3", "--each", "4", "--out", str(out), "--folder", str(tmp_path)]
    assert scale.main([*options, "--tokens", "3000"]) == 0
    del options[2]  # the many memories
    assert scale.main([*options, "--tokens", "3000", "--tokens", "10000", "--resume"]) == 0
    result = json.loads(out.read_text())
    rows = {(row["system"], row["turns"]): row for row in result["texts"]}
    assert sorted(rows) == sorted(product(("evomem", "plain RAG"), (6, 20)))
    assert rows["evomem", 20]["recall@10"] > 0.9
    for turns in (6, 20):
        by_vectors = rows["evomem", turns]["evolvable, answers in the first 10"]
        assert by_vectors == rows["plain RAG", turns]["answers in the first 10"]
    assert rows["evomem", 6]["evolvable, answers in the first 10"] == 1
    [memories] = result["text-memories"]
    assert memories["hybrid, answers in the first 10"] == 1
    assert "cold hybrid search, p95, CPU ms" in capsys.readouterr().out
    assert scale_plot.main([str(out), "--out", str(plot)]) == 0
    assert "evomem, plain" in plot.read_text()
    assert "bytes a turn" in plot.read_text()
    assert report.main([str(tmp_path), "--out", str(tmp_path / "pages")]) == 0
    assert "| recall@10 |" in (tmp_path / "pages" / "report.md").read_text()


def test_an_import_is_compared_with_the_encoder_alone(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "load_encoder", lambda name: Plain())
    out = tmp_path / "importing.json"
    chats = str(corpora / "some.jsonl.xz")
    assert importing.main(["--chats", chats, "--megabytes", "1", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    [row], [tenths] = result["rows"], result["tenths"]
    assert 1 < len(tenths) <= 10
    assert tenths[-1]["turns so far"] == row["turns"]
    assert 1 <= row["file, MB"] < 1.01
    assert row["turns"] == row["messages"] >= 900
    assert 0 < row["share of the encoder's rate"] < 1
    assert row["turns per CPU s"] < row["turns per CPU s, encoder alone"]
