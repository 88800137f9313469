"""`python -m benchmarks <name> ...`: run one benchmark; each is a module with `main(argv)`."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "retrieval": "are the turns that hold the answer found? LoCoMo, REALTALK, BEAM, LongMemEval",
    "ablation": "what is each part worth? queue lengths, shuffled histories, fusion; one table",
    "fusion": "what do the parts of a hybrid score count? learned on development data only",
    "words": "does a word find the sentence that has it? lexical search in thirty languages",
    "order": "does an encoder know what came first, and what is true now?",
    "plugin": "what do A-MEM and LightMem find with their own retriever, and with ours?",
    "qa": "are questions answered? ingest, retrieve, read, judge; LongMemEval's own files",
    "temporal": "does an embedding know its place in time? curves, a map, and one number",
    "storage": "what does a turn take on disk, in SQLite and in PostgreSQL?",
    "influence": "how far does one turn reach into what comes later?",
    "forks": "what do a thousand forks of a long memory cost?",
    "scale": "how far does one machine go? a million turns, many memories, other systems",
    "speed": "how fast is reading, one stream or a thousand, and how full is the device?",
    "precision": "what does bfloat16 change in embeddings and in what is found?",
    "soak": "do many threads lose, reorder or leak anything in ten minutes?",
    "streaming": "what does one more turn cost as a memory grows?",
    "training": "how much faster is training when segments share forward passes?",
    "mteb": "the same questions through MTEB, with its own metrics",
    "report": "one Markdown and one HTML page of all results",
    "figures": "check or rewrite the figures in a document from results",
}


def main(argv: list[str]) -> int:
    """Run the benchmark that `argv` names; return its exit code."""
    name = argv[0] if argv else "--help"
    if name in BENCHMARKS:
        code: int = import_module(f"benchmarks.{name}").main(argv[1:])
        return code
    print("usage: python -m benchmarks NAME [options]; NAME --help explains them\n")
    for each, what in BENCHMARKS.items():
        print(f"  {each:<10} {what}")
    if name in ("-h", "--help"):
        return 0
    print(f"\nthere is no benchmark {name!r}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
