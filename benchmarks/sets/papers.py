"""Sets with one collection per document: QASPER, PeerQA, COVID-QA."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import (
    ABSTENTION,
    DatasetError,
    expect,
    expect_objects,
    read_json,
    read_lines,
    read_members,
)
from benchmarks.sets.form import (
    Collection,
    Passage,
    SetQuestion,
    passages_of,
    set_question,
    with_existing_evidence,
)
from evomem._extras import require

MAX_PASSAGE_CHARS = 1200
"""The maximum length of a passage of COVID-QA in characters."""


def qasper(path: Path) -> Iterator[Collection]:
    """Read `qasper-test-v0.3.json` (or train, dev), one collection per paper.

    Passages are the abstract and the paragraphs, with the section's name as session. The evidence is all
    passages that an annotator marked; figures and tables are not passages. A question that every
    annotator calls unanswerable is left out.
    """
    for id, paper in read_members(path):
        where = f"{path} {id}"
        passages = list(_paragraphs(expect(paper, dict, where), where))
        yield Collection(
            id,
            [
                _qasper_question(item, id, passages, f"{where} question {number}")
                for number, item in enumerate(expect(paper.get("qas"), list, f"{where} qas"))
            ],
            passages.__iter__,
        )


def _paragraphs(paper: dict[str, Any], where: str) -> Iterator[Passage]:
    sections = expect(paper.get("full_text"), list, f"{where} full_text")
    texts = [("Abstract", paper.get("abstract") or "")]
    for section in sections:
        name = expect(section, dict, where).get("section_name") or ""
        paragraphs = expect(section.get("paragraphs"), list, f"{where} paragraphs")
        texts += [(name, text) for text in paragraphs]
    for number, (name, text) in enumerate(texts):
        yield from passages_of(str(number), text, where, session=name or None)


def _qasper_question(item: Any, paper: str, passages: list[Passage], where: str) -> SetQuestion:
    answers = [
        expect(expect(annotation, dict, where).get("answer"), dict, f"{where} answer")
        for annotation in expect(expect(item, dict, where).get("answers"), list, f"{where} answers")
    ]
    texts = [
        text
        for answer in answers
        for text in expect(answer.get("evidence", []), list, f"{where} evidence")
        if expect(text, str, f"{where} evidence").strip()
    ]
    labels = [
        passage.label
        for passage in passages
        if any(text.strip() in passage.turn.text for text in texts)
    ]
    unanswerable = bool(answers) and all(answer.get("unanswerable") for answer in answers)
    if unanswerable:
        labels = texts = []
    question = set_question(
        f"{paper}/{item.get('question_id')}",
        item.get("question"),
        "question",
        labels,
        where,
        abstention=unanswerable,
    )
    return with_existing_evidence(labels or texts, frozenset(labels), question)


def peerqa(path: Path) -> Iterator[Collection]:
    """Read PeerQA's folder: `papers.jsonl` (sentences, paper by paper) and `qa.jsonl`.

    Passages are paragraphs, joined from the sentences with the same `pidx`. The evidence in the file is
    sentences.
    """
    questions: dict[str, list[dict[str, Any]]] = {}
    for where, row in read_lines(path / "qa.jsonl"):
        paper = str(expect(row, dict, where).get("paper_id"))
        questions.setdefault(paper, []).append(row)
    finished: set[str] = set()
    sentences = read_lines(path / "papers.jsonl")
    for paper, lines in groupby(
        sentences, key=lambda line: str(expect(line[1], dict, line[0]).get("paper_id"))
    ):
        if paper in finished:
            raise DatasetError(
                f"{path / 'papers.jsonl'}: the lines of {paper!r} are not adjacent: sort the file"
            )
        finished.add(paper)
        rows = [row for _, row in lines]
        if paper in questions:
            yield _paper(paper, rows, questions[paper], str(path))


def _paper(
    paper: str, rows: list[dict[str, Any]], questions: list[dict[str, Any]], where: str
) -> Collection:
    for row in rows:
        for name in ("idx", "pidx", "sidx"):
            expect(row.get(name), int, f"{where} {paper} {name}")
    paragraph = {row["idx"]: str(row["pidx"]) for row in rows}
    texts: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["pidx"], row["sidx"])):
        content = expect(row.get("content"), str, f"{where} {paper} content")
        texts.setdefault(str(row["pidx"]), []).append(content)

    def passages() -> Iterator[Passage]:
        for label, sentences in texts.items():
            yield from passages_of(label, " ".join(sentences), f"{where} {paper}")

    result = []
    for item in questions:
        location = f"{where} {paper} {item.get('question_id')}"
        mapped = f"{location} answer_evidence_mapped"
        names = [
            expect(name, int, mapped)
            for entry in expect_objects(item.get("answer_evidence_mapped"), mapped)
            for name in expect(entry.get("idx", []), list, mapped)
            if name is not None
        ]
        labels = [paragraph.get(name, str(name)) for name in names]
        id = f"{paper}/{item.get('question_id')}"
        unanswerable = item.get("answerable") is False
        question = set_question(
            id, item.get("question"), "question", labels, location, abstention=unanswerable
        )
        result.append(with_existing_evidence(labels, frozenset(texts), question))
    return Collection(paper, result, passages)


def covidqa(path: Path) -> Iterator[Collection]:
    """Read `COVID-QA.json`, in SQuAD's layout, one collection per article.

    An article is split into passages of up to 1,200 characters, between paragraphs, lines or sentences.
    The evidence is the passages that an answer's span overlaps. If the answer is not at the position that
    the file names, its first occurrence is used.
    """
    splitter = require("semantic_text_splitter", extra="documents").TextSplitter(MAX_PASSAGE_CHARS)
    data = expect(expect(read_json(path), dict, str(path)).get("data"), list, f"{path} data")
    for number, article in enumerate(expect_objects(data, f"{path} data")):
        for part, paragraph in enumerate(
            expect(article.get("paragraphs"), list, f"{path} {number}")
        ):
            where = f"{path} article {number}"
            context = expect(expect(paragraph, dict, where).get("context"), str, f"{where} context")
            id = str(paragraph.get("document_id", f"{number}.{part}"))
            yield _article(id, context, splitter.chunk_indices(context), paragraph, where)


def _article(
    id: str, context: str, chunks: list[tuple[int, str]], paragraph: dict[str, Any], where: str
) -> Collection:
    spans = [(start, start + len(text)) for start, text in chunks]

    def passages() -> Iterator[Passage]:
        for label, (_, text) in enumerate(chunks):
            yield from passages_of(str(label), text, where)

    questions = []
    for item in expect_objects(paragraph.get("qas"), f"{where} qas"):
        location = f"{where} question {item.get('id')}"
        impossible = bool(item.get("is_impossible"))
        answers = [] if impossible else expect(item.get("answers"), list, f"{location} answers")
        labels = [
            str(label)
            for answer in answers
            for start in [_start(context, expect(answer, dict, location), location)]
            for label, span in enumerate(spans)
            if start >= 0 and span[0] < start + len(answer["text"].strip()) and start < span[1]
        ]
        questions.append(
            set_question(
                f"{id}/{item.get('id')}",
                item.get("question"),
                ABSTENTION if impossible else "question",
                labels,
                location,
                abstention=impossible,
            )
        )
    return Collection(id, questions, passages)


def _start(context: str, answer: dict[str, Any], where: str) -> int:
    """Return the position of an answer in its context, -1 if it does not occur."""
    text = expect(answer.get("text"), str, f"{where} text").strip()
    start = expect(answer.get("answer_start"), int, f"{where} answer_start")
    position = context.find(text, start, start + len(text) + 2)
    return position if position >= 0 else context.find(text)
