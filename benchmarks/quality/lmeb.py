"""LMEB's 22 tasks from its own data folder, for MTEB: `python -m benchmarks mteb --lmeb FOLDER`.

MTEB defines the tasks and reads them from the hub. This module reads the files of
https://huggingface.co/datasets/KaLM-Embedding/LMEB into the same tasks, with the same names, subsets and
metrics, and with the candidates of each query.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import DatasetError, expect, read_lines
from benchmarks.sets.corpora import candidates_of, nearest_file, read_candidates, read_qrels
from evomem._extras import require

TASKS = {
    "EPBench": "Episodic/EPBench",
    "KnowMeBench": "Episodic/KnowMeBench",
    "LoCoMo": "Dialogue/LoCoMo",
    "LongMemEval": "Dialogue/LongMemEval",
    "REALTALK": "Dialogue/REALTALK",
    "TMD": "Dialogue/TMD",
    "MemBench": "Dialogue/MemBench",
    "ConvoMem": "Dialogue/ConvoMem",
    "QASPER": "Semantic/QASPER",
    "NovelQA": "Semantic/NovelQA",
    "PeerQA": "Semantic/PeerQA",
    "CovidQA": "Semantic/Covid-QA",
    "ESGReports": "Semantic/ESG-Reports",
    "LMEBMLDR": "Semantic/MLDR",
    "LooGLE": "Semantic/LooGLE",
    "LMEB_SciFact": "Semantic/SciFact",
    "Gorilla": "Procedural/Gorilla",
    "ToolBench": "Procedural/ToolBench",
    "ReMe": "Procedural/ReMe",
    "ProceduralMemBench": "Procedural/Proced_mem_bench",
    "MemGovern": "Procedural/MemGovern",
    "DeepPlanning": "Procedural/DeepPlanning",
}
"""MTEB's name of a task → its path in LMEB's folder."""


def lmeb_tasks(folder: Path) -> Iterator[Any]:
    """Yield the tasks whose files are in `folder`, with their data, in LMEB's order.

    Raises:
        DatasetError: No task is in the folder, or a subset of a task is missing.
        MissingExtra: The extra `mteb` is not installed.
    """
    mteb = require("mteb", extra="mteb")
    present = {name: folder / place for name, place in TASKS.items() if (folder / place).is_dir()}
    if not present:
        raise DatasetError(
            f"{folder} has none of LMEB's folders, such as {TASKS['LoCoMo']}: give its data folder"
        )
    for name, place in present.items():
        task = mteb.get_task(name)
        task.dataset = {
            subset: {"test": read_subset(place, subset)} for subset in task.metadata.eval_langs
        }
        task.data_loaded = True
        yield task


def read_subset(place: Path, subset: str) -> dict[str, Any]:
    """Return a subset in MTEB's format; a task with one subset has its files in the task's folder.

    Raises:
        DatasetError: A file is missing or not in LMEB's layout.
    """
    data = require("datasets", extra="mteb")
    folder = place / subset.replace("__", "/")
    folder = folder if folder.is_dir() else place
    corpus = nearest_file(folder, "corpus.jsonl", place)
    if corpus is None:
        raise DatasetError(f"there is no corpus.jsonl in {folder} or the folders above it")
    candidates = read_candidates(nearest_file(folder, "candidates.jsonl", place))
    relevant = read_qrels(folder / "qrels.tsv")
    queries = [
        {"id": str(row.get("id")), "text": expect(row.get("text"), str, f"{where} text")}
        for where, row in _rows(folder / "queries.jsonl")
        if str(row.get("id")) in relevant
    ]
    candidates_by_query = {row["id"]: candidates_of(row["id"], candidates) for row in queries}
    documents = [
        {"id": str(row.get("id")), "title": row.get("title") or "", "text": row.get("text") or ""}
        for _, row in _rows(corpus)
    ]
    return {
        "corpus": data.Dataset.from_list(documents),
        "queries": data.Dataset.from_list(queries),
        "relevant_docs": {row["id"]: relevant[row["id"]] for row in queries},
        "top_ranked": {
            id: sorted(ids) if ids is not None else [row["id"] for row in documents]
            for id, ids in candidates_by_query.items()
        }
        if candidates
        else None,
    }


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, row in read_lines(path):
        yield where, expect(row, dict, where)
