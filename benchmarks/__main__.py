"""`python -m benchmarks <name> ...`: run one benchmark; each is a module with `main(argv)`."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "quality.retrieval": "are the turns that hold the answer found? LoCoMo, REALTALK, BEAM, LongMemEval",
    "quality.ablation": "what is each part worth? queue lengths, shuffled histories, fusion; one table",
    "quality.memory": "is the memory used? counterfactual antecedents; histories shuffled and replaced",
    "quality.fusion": "what do the parts of a hybrid score count? learned on development data only",
    "quality.relevance": "can a search say that nothing answers? relevance fitted on one half of the data",
    "quality.words": "does a word find the sentence that has it? lexical search in thirty languages",
    "quality.languages": "is the right turn found in languages other than English? forty facts in nine",
    "quality.order": "does an encoder know what came first, and what is true now?",
    "quality.stale": "does a current value stand above older ones? and an older one where it is asked for?",
    "systems.plugin": "what do A-MEM and LightMem find with their own retriever, and with ours?",
    "qa": "are questions answered? ingest, retrieve, read, judge; LongMemEval's own files",
    "quality.temporal": "does an embedding know its place in time? curves, a map, and one number",
    "quality.times": "is what was said at a time found? questions that name days or sessions",
    "cost.storage": "what does a turn take on disk, in SQLite and in PostgreSQL?",
    "quality.influence": "how far does one turn reach into what comes later?",
    "cost.items": "what do LangGraph's items cost, beside LangGraph's own store in SQLite?",
    "cost.growth": "does memory in use grow with what is added?",
    "cost.peers": "what do adding, searching and opening cost, beside other memories?",
    "cost.forks": "what do a thousand forks of a long memory cost?",
    "cost.scale": "how far does one machine go? a million turns, many memories, other systems",
    "cost.speed": "how fast is reading, one stream or a thousand, and how full is the device?",
    "quality.precision": "what does bfloat16 change in embeddings and in what is found?",
    "cost.service": "what does the service cost? add and search over HTTP beside the same in process",
    "cost.fleet": "how many workers does one database feed? leases, Ray's share, a thousand simulated workers",
    "cost.service_soak": "does a service that is killed again and again lose what it acknowledged, or grow?",
    "cost.soak": "do many threads lose, reorder or leak anything in ten minutes?",
    "cost.streaming": "what does one more turn cost as a memory grows?",
    "cost.training": "how much faster is training when segments share forward passes?",
    "sets.documents": "is the passage found? NQ320k, MSA, MS MARCO, MLDR, QASPER, BEAM, HaluMem, …",
    "sets.pickles": "pickled lists, dictionaries and strings as JSON",
    "quality.mteb": "the same questions through MTEB, with its own metrics",
    "quality.protocol": "what do the choices of a protocol change? BM25 by ours and by LMEB's",
    "reporting.report": "one Markdown and one HTML page of all results",
    "reporting.figures": "check or rewrite the figures in a document from results",
}


def main(argv: list[str]) -> int:
    """Run the benchmark that `argv` names; return its exit code."""
    name = argv[0] if argv else "--help"
    modules = {module.rpartition(".")[2]: module for module in BENCHMARKS}
    if name in modules:
        code: int = import_module(f"benchmarks.{modules[name]}").main(argv[1:])
        return code
    print("usage: python -m benchmarks NAME [options]; NAME --help explains them\n")
    for benchmark, module in modules.items():
        print(f"  {benchmark:<10} {BENCHMARKS[module]}")
    if name in ("-h", "--help"):
        return 0
    print(f"\nthere is no benchmark {name!r}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
