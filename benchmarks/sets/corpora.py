"""Sets with one corpus for all questions: NQ320k, MSA's memory banks, MS MARCO, MLDR, LMEB."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    DatasetError,
    JsonStream,
    expect,
    open_text,
    read_json,
    read_lines,
    read_records,
)
from benchmarks.sets.form import Collection, Passage, SetQuestion, digest, passages_of, set_question

MSA_KEYS = (("question", "labels"), ("query", "reference_list"))
"""The keys of the question and of its documents' texts in MSA's two layouts."""


def nq320k(path: Path) -> Iterator[Collection]:
    """Read GenRet's folder: `corpus_lite.json`, `dev.json`, `dev.json.seen`, `dev.json.unseen`.

    Documents are identified by their position in the corpus. `train.json` is only for training.
    """
    seen, unseen = (_numbers(path / f"dev.json.{part}") for part in ("seen", "unseen"))
    questions = []
    for number, (where, item) in enumerate(read_records(path / "dev.json")):
        text, labels = _pair(item, where)
        kind = "unseen" if number in unseen else "seen" if number in seen else "other"
        questions.append(set_question(str(number), text, kind, _positions(labels, where), where))

    def passages() -> Iterator[Passage]:
        for number, (where, text) in enumerate(read_records(path / "corpus_lite.json")):
            yield from passages_of(str(number), text, where)

    yield Collection("nq320k", questions, passages)


def _numbers(path: Path) -> set[int]:
    return {expect(number, int, str(path)) for number in expect(read_json(path), list, str(path))}


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if len(expect(item, list, where)) != 2:
        raise DatasetError(f"{where}: expected [query, document], found {item!r:.60}")
    return item[0], item[1]


def _positions(labels: Any, where: str) -> list[str]:
    """Return the positions of documents, which the file writes as n, [n, m] or [[n, relevance], ...]."""
    items = labels if isinstance(labels, list) else [labels]
    positions = [item[0] if isinstance(item, list) and item else item for item in items]
    return [str(expect(position, int, f"{where} document")) for position in positions]


def msa(path: Path) -> Iterator[Collection]:
    """Read a folder with `qdata_*.json` and `mdata_*.json`, converted from MSA-RAG-BENCHMARKS' pickles.

    The memory bank is a list of texts, and a question names its documents by their complete texts, for
    which labels here are digests.
    """
    queries, memory = (_converted(path, name) for name in ("qdata", "mdata"))
    questions = []
    for number, (where, item) in enumerate(read_records(queries)):
        expect(item, dict, where)
        names = next((names for names in MSA_KEYS if names[0] in item), None)
        if names is None:
            raise DatasetError(f"{where} has neither 'question' nor 'query'")
        texts = expect(item.get(names[1]), list, f"{where} {names[1]}")
        labels = [digest(expect(text, str, f"{where} {names[1]}")) for text in texts]
        questions.append(set_question(str(number), item[names[0]], "question", labels, where))

    def passages() -> Iterator[Passage]:
        for where, text in read_records(memory):
            yield from passages_of(digest(expect(text, str, where)), text, where)

    yield Collection(memory.stem, questions, passages)


def _converted(folder: Path, name: str) -> Path:
    """Return the only JSON file in `folder` whose name starts with `name`."""
    files = sorted(folder.glob(f"{name}_*.json"))
    if len(files) == 1:
        return files[0]
    if files:
        raise DatasetError(f"{folder} has {len(files)} files {name}_*.json, expected one")
    pickled = next(iter(sorted(folder.glob(f"{name}_*.pkl"))), None)
    if pickled:
        raise DatasetError(
            f"{pickled} is a pickle, which can run code when loaded: convert it with "
            f"`python -m benchmarks pickles {pickled}`"
        )
    raise DatasetError(f"{folder} has no {name}_*.json")


def msmarco(path: Path) -> Iterator[Collection]:
    """Read MS MARCO's question answering files, v1.1 (lines) or v2.1 (columns).

    The passages of all queries are one corpus, without duplicates. The evidence is the passages that the
    annotators selected; queries without a selected passage are left out.
    """
    columns = _in_columns(path)
    texts: dict[str, str] = {}
    kinds: dict[str, str] = {}
    selected: dict[str, list[str]] = {}
    for key, column, value in _cells(path) if columns else _fields(path):
        if column == "query":
            texts[key] = value
        elif column == "query_type":
            kinds[key] = str(value)
        elif column == "passages":
            selected[key] = [
                digest(text)
                for text, is_selected in _marco_passages(value, f"{path} {key}")
                if is_selected
            ]
    questions = [
        set_question(key, text, kinds.get(key, "query"), selected.get(key, []), f"{path} {key}")
        for key, text in texts.items()
    ]

    def passages() -> Iterator[Passage]:
        for key, column, value in _cells(path) if columns else _fields(path):
            if column == "passages":
                for text, _ in _marco_passages(value, f"{path} {key}"):
                    yield from passages_of(digest(text), text, f"{path} {key}")

    yield Collection("msmarco", questions, passages)


def _marco_passages(value: Any, where: str) -> Iterator[tuple[str, bool]]:
    for item in expect(value, list, f"{where} passages"):
        text = expect(expect(item, dict, where).get("passage_text"), str, f"{where} passage_text")
        yield text, item.get("is_selected") == 1


def _in_columns(path: Path) -> bool:
    """Return whether a file is one object of columns (v2.1) instead of one object per line (v1.1)."""
    with open_text(path) as file:
        stream = JsonStream(file, path)
        for _ in stream.entries("{", "}"):
            stream.key()
            return stream.peek() == "{"
    raise DatasetError(f"{path} is an empty object")


def _cells(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield (row, column, value) of an object of columns, without loading all of it."""
    with open_text(path) as file:
        stream = JsonStream(file, path)
        for _ in stream.entries("{", "}"):
            column = stream.key()
            for _ in stream.entries("{", "}"):
                yield stream.key(), column, stream.value()


def _fields(path: Path) -> Iterator[tuple[str, str, Any]]:
    for where, row in read_lines(path):
        key = str(expect(row, dict, where).get("query_id", where))
        for column in ("query", "query_type", "passages"):
            if column not in row:
                raise DatasetError(f"{where} has no {column!r}")
            yield key, column, row[column]


def mldr(path: Path) -> Iterator[Collection]:
    """Read a language's folder of MLDR: `corpus.jsonl` and `test.jsonl`, packed (`.gz`) or not."""
    corpus, test = (_unpacked_or_not(path, name) for name in ("corpus.jsonl", "test.jsonl"))
    questions = []
    for where, row in read_lines(test):
        positive = expect(expect(row, dict, where).get("positive_passages"), list, where)
        labels = [str(expect(item, dict, where).get("docid")) for item in positive]
        questions.append(
            set_question(str(row.get("query_id")), row.get("query"), "query", labels, where)
        )

    def passages() -> Iterator[Passage]:
        for where, row in read_lines(corpus):
            label = str(expect(row, dict, where).get("docid"))
            yield from passages_of(label, row.get("text"), where)

    yield Collection(path.name, questions, passages)


def _unpacked_or_not(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.exists() else folder / name


def lmeb(path: Path) -> Iterator[Collection]:
    """Read LMEB's data folder, or a part of it: `queries.jsonl`, `qrels.tsv`, `corpus.jsonl`.

    The corpus and the candidates of a subset are in the folder of its queries or in a folder above it.
    Queries with the same candidates are one collection, read in the order of the corpus.
    """
    folders = sorted(file.parent for file in path.rglob("queries.jsonl"))
    if not folders:
        raise DatasetError(f"{path} has no queries.jsonl")
    for folder in folders:
        yield from _subset(folder, path)


def _subset(folder: Path, root: Path) -> Iterator[Collection]:
    name = "/".join(folder.parts[len(root.parts) - 1 :])
    corpus = nearest_file(folder, "corpus.jsonl", root)
    if corpus is None:
        raise DatasetError(f"there is no corpus.jsonl in {folder} or the folders above it")
    relevant = read_qrels(folder / "qrels.tsv")
    groups: dict[frozenset[str] | None, list[SetQuestion]] = {}
    candidates = read_candidates(nearest_file(folder, "candidates.jsonl", root))
    for where, row in read_lines(folder / "queries.jsonl"):
        id = str(expect(row, dict, where).get("id"))
        labels = [label for label, score in relevant.get(id, {}).items() if score > 0]
        question = set_question(f"{name}/{id}", row.get("text"), name, labels, where)
        groups.setdefault(candidates_of(id, candidates), []).append(question)
    for number, (group_candidates, questions) in enumerate(groups.items()):
        yield Collection(f"{name}/{number}", questions, _reader(corpus, group_candidates))


def _reader(corpus: Path, candidates: frozenset[str] | None) -> Any:
    def passages() -> Iterator[Passage]:
        for where, row in read_lines(corpus):
            label = str(expect(row, dict, where).get("id"))
            if candidates is None or label in candidates:
                yield from passages_of(label, titled(row, where), where)

    return passages


def titled(row: dict[str, Any], where: str) -> str:
    """Return a document's text, preceded by its title if it has one."""
    parts = [row.get(name) or "" for name in ("title", "text")]
    return " ".join(expect(part, str, where) for part in parts if part)


def nearest_file(folder: Path, name: str, root: Path) -> Path | None:
    """Return the nearest file `name` in `folder` or a folder above it, up to `root`'s parent, or None."""
    while folder != root.parent.parent and folder != folder.parent:
        if (folder / name).exists():
            return folder / name
        folder = folder.parent
    return None


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Return query → document → relevance from a file of three columns without a header."""
    relevant: dict[str, dict[str, int]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
                if len(row) != 3 or not row[2].strip().isdecimal():
                    raise DatasetError(f"{path} line {number}: expected query, document, score")
                relevant.setdefault(row[0], {})[row[1]] = int(row[2])
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    return relevant


def read_candidates(path: Path | None) -> dict[str, frozenset[str]]:
    """Return scene → candidate documents; empty if there is no file."""
    if path is None:
        return {}
    return {
        str(expect(row, dict, where).get("scene_id")): frozenset(
            map(str, expect(row.get("candidate_doc_ids"), list, f"{where} candidate_doc_ids"))
        )
        for where, row in read_lines(path)
    }


def candidates_of(query: str, candidates: dict[str, frozenset[str]]) -> frozenset[str] | None:
    """Return the candidates of a query, whose id is or starts with a scene; None if all are candidates."""
    scene = "_".join(query.split("_")[:2])
    return candidates.get(query, candidates.get(scene))
