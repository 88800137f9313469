"""A small local task in MTEB's format: what is found, in which order it is read, and its metrics."""

import json

import pytest

pytest.importorskip("mteb", reason="the extra mteb is not installed")

from benchmarks.datasets import load_stream
from benchmarks.quality.mteb import ConversationSearch, evaluate, main
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
    theirs = evaluate(HashEncoder(), "hash", dataset)
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
