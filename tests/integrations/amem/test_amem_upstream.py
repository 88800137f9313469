"""A-MEM's own tests and code, unmodified, on our classes. They need checkouts:

EVOMEM_AMEM       https://github.com/agiresearch/A-mem or https://github.com/WujiangXu/A-mem-sys
EVOMEM_AMEM_EVAL  https://github.com/WujiangXu/A-mem
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HOST = ("rank_bm25", "nltk", "sklearn", "litellm", "openai")  # what their modules import


def checkout(variable):
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"set {variable} to a checkout, see this file's first lines")
    return Path(folder).resolve()


def run(arguments, folder, tmp_path, **variables):
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = {
        **os.environ,
        **variables,
        "PYTHONPATH": path,
        "HOME": str(tmp_path),  # a test of theirs writes into ~/.chromadb
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",  # nobody answers: they take that as "no LLM"
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def passed(output):
    assert not re.search(r"\d+ (failed|error|skipped)", output), output
    return int(re.findall(r"(\d+) passed", output)[-1])


def pytest_of_theirs(folder, tmp_path, replace):
    files = [
        str(path) for path in sorted((folder / "tests").glob("test_[!u]*.py"))
    ]  # utils: no test
    arguments = ["-m", "pytest", "-o", "addopts=", "-p", "amem_host", "-p", "no:cacheprovider"]
    return passed(run([*arguments, *files], folder, tmp_path, AMEM_REPLACE=replace))


@pytest.mark.slow
def test_their_tests_pass_with_our_whole_class(tmp_path):
    folder = checkout("EVOMEM_AMEM")
    assert pytest_of_theirs(folder, tmp_path, "class") >= 10


@pytest.mark.slow
def test_their_tests_pass_with_our_retrievers_under_their_memory_system(tmp_path):
    folder = checkout("EVOMEM_AMEM")
    missing = [name for name in HOST if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"A-MEM itself needs {', '.join(missing)}")
    assert pytest_of_theirs(folder, tmp_path, "retrievers") >= 10


EVALUATION = """
import sys
import memory_layer, memory_layer_robust
from evomem_integrations.amem import install

install(memory_layer, memory_layer_robust, encoder=sys.argv[1])


class Llm:
    calls = 0
    def get_completion(self, prompt, **options):
        Llm.calls += 1
        return '{"should_evolve": true, "actions": ["update_neighbor"], "suggested_connections": [0],'
        ' "tags_to_update": ["t"], "new_context_neighborhood": ["about cats"],'
        ' "new_tags_neighborhood": [["cat"]]}'


class Controller:
    llm = Llm()


system = memory_layer.AgenticMemorySystem.__new__(memory_layer.AgenticMemorySystem)
memory_layer.LLMController = lambda *a, **k: Controller()
system.__init__("all-MiniLM-L6-v2", evo_threshold=3)
for text in ("I adopted a cat called Miso", "I live in Bergen", "We play chess on Sundays"):
    system.add_note(text, time="202401010000")
assert Llm.calls, "the LLM was not asked"
text, places = system.find_related_memories("cat called Miso", k=2)
assert places.dtype == "int64" and len(places) == 2 and places[0] == 0, places
assert text.splitlines()[0].startswith("memory index:0\\t talk start time:202401010000"), text
assert "Miso" in system.find_related_memories_raw("cat called Miso", k=1)
folder = sys.argv[2]
names = folder + "/cache.pkl", folder + "/cache.npy"
before = system.retriever.search("Where do I live?", 3)
system.retriever.save(*names)
loaded = system.retriever.load(*names)
assert (loaded.search("Where do I live?", 3) == before).all() and loaded.corpus == system.retriever.corpus
again = system.retriever.load_from_local_memory(system.memories, "all-MiniLM-L6-v2")
assert len(again.corpus) == 3 and again.search("chess on Sundays", 1)[0] == 2
robust = memory_layer_robust.SimpleEmbeddingRetriever("all-MiniLM-L6-v2")
assert robust.search("x") == []
print("1 passed")
"""


@pytest.mark.slow
def test_the_evaluation_code_runs_on_our_retriever(tmp_path):
    folder = checkout("EVOMEM_AMEM_EVAL")
    missing = [name for name in HOST if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"A-MEM itself needs {', '.join(missing)}")
    output = run(["-c", EVALUATION, "hash", str(tmp_path)], folder, tmp_path)
    assert passed(output) == 1
