"""A small local task in MTEB's format: what is found, in which order it is read, and its metrics."""

import json

import pytest

pytest.importorskip("mteb", reason="the extra mteb is not installed")

from benchmarks.datasets import load_stream
from benchmarks.quality.lmeb import TASKS, lmeb_tasks
from benchmarks.quality.mteb import ConversationSearch, evaluate, main, task_of
from benchmarks.quality.retrieval import rank_all
from benchmarks.systems.encoders import Encoders
from evomem import HashEncoder

pytestmark = pytest.mark.filterwarnings("ignore")  # of MTEB and what it is built on


@pytest.fixture
def data(tmp_path):
    def stream(name, *texts):
        turns = [{"speaker": "user", "text": text} for text in texts]
        queries = [
            {"question": f"What of {text.split()[-1]}", "type": "t", "evidence": [place]}
            for place, text in enumerate(texts)
        ]
        return json.dumps({"id": name, "turns": turns, "queries": queries})

    path = tmp_path / "tiny.jsonl"
    lines = [
        stream("a", *(f"I like the {word}" for word in "cat dog sea rain snow wood moon".split())),
        stream("b", *(f"We saw one {word}" for word in "cat dog sea star boat tree".split())),
    ]
    path.write_text("\n".join(lines))
    return path


class Watched(HashEncoder):
    def __init__(self):
        super().__init__()
        self.histories = []

    def read(self, state, turns):
        self.histories.append([turn.text for turn in turns])
        return super().read(state, turns)


def test_candidates_are_read_in_the_order_of_the_corpus():
    encoder = Watched()
    search = ConversationSearch(encoder, "watched")
    texts = ["Ann: one", "Ann: two", "Ann: three", "Ann: four"]
    search.index([{"id": str(n), "title": "", "text": text} for n, text in enumerate(texts)])
    ranked = search.search(
        [{"id": "q", "text": "three?"}], top_k=2, top_ranked={"q": ["3", "0", "2"]}
    )
    assert encoder.histories == [[texts[0], texts[2], texts[3]]]
    assert next(iter(ranked["q"])) == "2"
    assert len(ranked["q"]) == 2


def test_mteb_and_our_own_metrics_agree(data):
    dataset = load_stream(data)
    theirs = evaluate(HashEncoder(), "hash", task_of(dataset))
    rows = rank_all(dataset, ["hash"], Encoders()).scores("hash")
    for ours, name in (
        ("recall@1", "recall_at_1"),
        ("recall@5", "recall_at_5"),
        ("ndcg@10", "ndcg_at_10"),
    ):
        assert theirs[name] == pytest.approx(sum(row[ours] for row in rows) / len(rows), abs=1e-4)
    assert 0 < theirs["recall_at_1"] <= 1


def test_a_run_prints_and_writes_mtebs_scores(data, tmp_path, capsys):
    out = tmp_path / "mteb.json"
    assert main(["--stream", str(data), "--encoder", "hash", "--out", str(out)]) == 0
    assert "recall_at_10" in capsys.readouterr().out
    assert "ndcg_at_10" in json.loads(out.read_text())["tasks"]["tiny"]["hash"]


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def lmeb(tmp_path):
    """LMEB's folder with two conversations of LoCoMo: one corpus, its subsets in folders below."""
    task = tmp_path / "LMEB" / TASKS["LoCoMo"]
    rows = [("a_1_0", "Ann: hi"), ("a_1_1", "Ann: my cat"), ("b_1_0", "Bob: my cat")]
    lines(task / "corpus.jsonl", *({"id": id, "title": "", "text": text} for id, text in rows))
    lines(
        task / "candidates.jsonl",
        {"scene_id": "a_1", "candidate_doc_ids": ["a_1_1", "a_1_0"]},
        {"scene_id": "b_1", "candidate_doc_ids": ["b_1_0"]},
    )
    for subset in ("single_hop", "multi_hop", "temporal_reasoning", "open_domain", "adversarial"):
        lines(task / subset / "queries.jsonl", {"id": "a_1_q", "text": "cat?"})
        (task / subset / "qrels.tsv").write_text("a_1_q\ta_1_1\t1\n")
    return tmp_path / "LMEB"


def test_lmebs_files_become_mtebs_task_with_each_querys_candidates(lmeb):
    [task] = lmeb_tasks(lmeb)
    assert task.metadata.name == "LoCoMo"
    split = task.dataset["single_hop"]["test"]
    assert split["top_ranked"] == {"a_1_q": ["a_1_0", "a_1_1"]}
    assert len(split["corpus"]) == 3


def test_every_name_of_a_task_is_mtebs():
    benchmark = pytest.importorskip("mteb").get_benchmark("LMEB")
    assert {task.metadata.name for task in benchmark.tasks} == set(TASKS)


def test_results_are_kept_in_mtebs_format_and_reused(lmeb, tmp_path, capsys):
    folder = tmp_path / "results"
    argv = ["--lmeb", str(lmeb), "--encoder", "hash", "--results", str(folder)]
    assert main(argv) == 0
    assert "LoCoMo, hash" in capsys.readouterr().out
    [path] = folder.rglob("LoCoMo.json")
    assert path.parent.parent.name == "evomem__hash"
    result = json.loads(path.read_text())
    assert len(result["scores"]["test"]) == 5
    assert (path.parent / "model_meta.json").exists()
    written = path.stat().st_mtime_ns
    assert main(argv) == 0
    assert path.stat().st_mtime_ns == written
