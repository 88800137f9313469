import json

import numpy as np

from benchmarks.cost import peers


def test_every_call_is_measured_and_finds_the_nearest(tmp_path, capsys):
    rng = np.random.default_rng(0)
    turns = rng.standard_normal((80, 16)).astype(np.float32)
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    np.savez(tmp_path / "vectors.npz", turns=turns, questions=turns[:5])
    stream = {
        "id": "c",
        "turns": [{"id": f"{n}", "text": f"text {n}"} for n in range(80)],
        "queries": [{"question": f"question {n}?", "evidence": [n]} for n in range(5)],
    }
    (tmp_path / "chats.jsonl").write_text(json.dumps(stream) + "\n", "utf-8")
    argv = ["--turns", "60", "--rounds", "1", "--system", "evomem"]
    argv += ["--vectors", str(tmp_path / "vectors.npz"), "--stream", str(tmp_path / "chats.jsonl")]
    peers.main(argv)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]["evomem"]
    assert figures["search, share of the 10 nearest"] == 1
    assert figures["search with a filter, share of the 10 nearest"] == 1
    assert figures["delete one"] > 0
    assert figures["open, and the first search"] > 0
    assert figures["disk, bytes a turn"] > 4 * 16
