"""`python -m benchmarks <name> ...`: run one benchmark; each is a module with `main(argv)`."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "quality.retrieval": "recall of the turns that hold the answer: LoCoMo, REALTALK, BEAM, LongMemEval",
    "quality.ablation": "the contribution of each part: queue lengths, shuffled histories, fusion; one table",
    "quality.memory": "does an encoder use its memory? ambiguous follow-ups; shuffled and replaced histories",
    "quality.references": "can training make EvoEmbedding use its memory for retrieval? follow-ups that name nothing",
    "quality.fusion": "weights of the signals of a hybrid score, fitted on development data only",
    "quality.relevance": "can a search tell that nothing answers? relevance, fitted on half of the data",
    "quality.words": "does a word find the sentence that contains it? lexical search in thirty languages",
    "quality.languages": "recall in languages other than English: forty facts in nine languages",
    "quality.order": "does an encoder distinguish the first value from the latest?",
    "quality.stale": "does a search rank the current value above older ones, and an older one if the question asks for it?",
    "systems.plugin": "recall of A-MEM and LightMem with their own retriever, compared with ours",
    "qa": "question answering: ingest, retrieve, read, judge; LongMemEval's own files",
    "qa.latents": "one small model that retrieves and answers: from latents, from text, from nothing",
    "quality.temporal": "do embeddings encode positions in time? curves, a map, and one number",
    "quality.times": "recall for questions that name days or sessions",
    "cost.storage": "the size of a turn on disk, in SQLite and in PostgreSQL",
    "quality.influence": "the influence of one turn on later embeddings and answers",
    "cost.items": "the cost of LangGraph's items, compared with LangGraph's own store in SQLite",
    "cost.growth": "does resident memory grow with the number of turns?",
    "cost.importing": "the memory and speed of importing chats, compared with the encoder alone",
    "cost.peers": "the cost of adding, searching and opening, compared with other memories",
    "cost.forks": "the cost of a thousand forks of a long memory",
    "cost.scale": "the limits of one machine: a million turns, many memories, other systems",
    "cost.scale_plot": "a plot of cost against size, from results of scale",
    "cost.speed": "the speed of reading, from one stream to a thousand, and the use of the device",
    "quality.precision": "the effect of bfloat16 on embeddings and rankings",
    "cost.service": "the cost of add and search over HTTP, compared with calls in process",
    "cost.fleet": "the workers that one database supports: leases, Ray, a thousand simulated workers",
    "cost.service_soak": "does a service lose acknowledged turns when it is killed, or leak memory?",
    "cost.soak": "do many threads lose or reorder turns, or leak memory, in ten minutes?",
    "cost.streaming": "the cost of one more turn as a memory grows",
    "cost.training": "the speed-up of training when segments share forward passes",
    "sets.documents": "recall of passages: NQ320k, MSA, MS MARCO, MLDR, QASPER, BEAM, HaluMem, …",
    "sets.pickles": "convert pickled lists, dictionaries and strings to JSON",
    "sets.word_vectors": "word vectors of a package as a model: the cheapest encoder",
    "quality.mteb": "the same questions in MTEB, with its own metrics",
    "quality.protocol": "the effect of a protocol's choices: BM25 under ours and LMEB's",
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
    print(f"\nunknown benchmark {name!r}: use one of the names above", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
