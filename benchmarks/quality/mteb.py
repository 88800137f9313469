"""evomem's encoders as MTEB models, our datasets and LMEB as MTEB tasks: `python -m benchmarks mteb`.

MTEB embeds documents independently of each other. This model instead takes the whole corpus
(`SearchProtocol`) and reads the candidates of a query as a conversation, in the order of the corpus.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset
from benchmarks.datasets.evotrain import as_turn
from benchmarks.datasets.find import add_arguments, load_all, names_dataset
from benchmarks.quality.lmeb import lmeb_tasks
from benchmarks.reporting.output import finish, positive, setting, table
from benchmarks.systems.encoders import Encoders, read_all
from evomem import Encoder
from evomem._extras import require
from evomem.plugins import DEFAULT_ENCODER

TABLE_SCORES = ("recall_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10", "mrr_at_10")


class ConversationSearch:
    """A model that reads the candidates of a query in order: MTEB's `SearchProtocol`."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        """Wrap an encoder; MTEB's results show `name`."""
        mteb = require("mteb", extra="mteb")
        self._encoder = encoder
        self._corpus: dict[str, str] = {}  # id → text, in the order of the corpus
        unset = dict.fromkeys(
            (
                *("loader", "release_date", "n_parameters", "memory_usage_mb", "max_tokens"),
                *("license", "open_weights", "public_training_code", "public_training_data"),
                *("similarity_fn_name", "training_datasets", "use_instructions", "reference"),
            )
        )
        self.mteb_model_meta = mteb.models.ModelMeta(
            **unset,
            name=f"evomem/{name.replace('/', '_')}",
            revision=encoder.spec.fingerprint,
            languages=["eng-Latn"],
            embed_dim=encoder.spec.dim,
            framework=[],
        )

    def index(self, corpus: Any, **_: Any) -> None:
        """Keep the corpus, which is in the order of time."""
        self._corpus = {
            row["id"]: f"{row['title']} {row['text']}" if row.get("title") else row["text"]
            for row in corpus
        }

    def search(
        self,
        queries: Any,
        *,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """Return the scores of the best documents for every query, asked after its last candidate."""
        place = {id: number for number, id in enumerate(self._corpus)}
        by_candidates: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
        for row in queries:
            candidates = top_ranked[row["id"]] if top_ranked else place
            ids = tuple(sorted(candidates, key=place.__getitem__))
            by_candidates[ids].append((row["id"], row["text"]))
        results: dict[str, dict[str, float]] = {}
        for ids, rows in by_candidates.items():
            turns = [as_turn(self._corpus[id]) for id in ids]
            vectors, state = read_all(self._encoder, turns)
            embedded = self._encoder.embed_queries(state, [text for _id, text in rows])
            for (query, _text), scores in zip(rows, embedded @ vectors.T, strict=True):
                best = sorted(zip(ids, scores.tolist(), strict=True), key=lambda pair: -pair[1])
                results[query] = dict(best[:top_k])
        return results


def task_of(dataset: Dataset) -> Any:
    """Return a dataset as a retrieval task of MTEB; a query's candidates are its conversation's turns."""
    mteb = require("mteb", extra="mteb")
    data = require("datasets", extra="mteb")
    corpus, queries, relevant, candidates = [], [], {}, {}
    for conversation in dataset.conversations:
        ids = [f"{conversation.id}:{place}" for place in range(len(conversation.turns))]
        corpus += [
            {"id": id, "title": "", "text": turn.text}
            for id, turn in zip(ids, conversation.turns, strict=True)
        ]
        for question in conversation.questions:
            if question.evidence:
                queries.append({"id": question.id, "text": question.text})
                relevant[question.id] = {ids[place]: 1 for place in question.evidence}
                candidates[question.id] = ids
    metadata = mteb.TaskMetadata(
        name=f"evomem-{dataset.name}",
        description=f"turns that answer a question, among those of its conversation: {dataset.name}",
        dataset={"path": str(dataset.path), "revision": dataset.sha256},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="recall_at_10",
    )

    class Task(mteb.abstasks.AbsTaskRetrieval):  # type: ignore[misc, name-defined]
        """The dataset, already loaded."""

    Task.metadata = metadata
    task = Task()
    task.dataset = {
        "default": {
            "test": {
                "corpus": data.Dataset.from_list(corpus),
                "queries": data.Dataset.from_list(queries),
                "relevant_docs": relevant,
                "top_ranked": candidates,
            }
        }
    }
    task.data_loaded = True
    return task


def main(argv: Sequence[str]) -> int:
    """Run the tasks; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("mteb", argv), "tasks": {}}

    def run() -> None:
        encoders, rows = Encoders(options.device), []
        for title, task in _tasks(options):
            for name in options.encoder or [DEFAULT_ENCODER]:
                scores = evaluate(encoders[name], name, task, options.results)
                result["tasks"].setdefault(title, {})[name] = scores
                rows.append([f"{title}, {name}", *(f"{100 * scores[s]:.1f}" for s in TABLE_SCORES)])
        print(table(["MTEB, %", *TABLE_SCORES], rows))

    return finish(result, options.out, run)


def _tasks(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the name and task of every dataset that the options select."""
    if options.lmeb:
        yield from ((task.metadata.name, task) for task in lmeb_tasks(options.lmeb))
        if not names_dataset(options):
            return
    for dataset in load_all(options):
        dataset.conversations[:] = dataset.conversations[: options.limit]
        yield dataset.name, task_of(dataset)


def evaluate(
    encoder: Encoder, name: str, task: Any, results: Path | None = None
) -> dict[str, float]:
    """Return MTEB's scores, averaged over the task's subsets.

    Args:
        encoder: The encoder to evaluate.
        name: The encoder's name in MTEB's results.
        task: A task of MTEB.
        results: A folder for results in MTEB's format; a result that it holds is reused.
    """
    mteb = require("mteb", extra="mteb")
    cache = mteb.ResultCache(results) if results else None
    evaluation = mteb.evaluate(
        ConversationSearch(encoder, name), task, cache=cache, show_progress_bar=False
    )
    subsets = evaluation.task_results[0].scores["test"]
    return {
        key: sum(scores[key] for scores in subsets) / len(subsets)
        for key, value in subsets[0].items()
        if isinstance(value, float)
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks mteb", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument(
        "--lmeb",
        type=Path,
        metavar="FOLDER",
        help="run the tasks in a copy of https://huggingface.co/datasets/KaLM-Embedding/LMEB",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="store results here in the format of MTEB's results repository, and resume from them",
    )
    parser.add_argument("--encoder", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N conversations"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores here as JSON")
    return parser
