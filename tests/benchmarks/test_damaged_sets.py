"""Sets of documents with a wrong value somewhere: readers raise `DatasetError` or do not need the value."""

import copy
import json
from typing import Any

import pytest

from benchmarks.datasets.base import DatasetError
from benchmarks.sets import chats, corpora, documents, papers
from benchmarks.sets.form import Reader
from benchmarks.sets.table import SETS

TIME = "Sep 04, 2025, 18:41:23"
MARCO = {"is_selected": 1, "passage_text": "Bergen is rainy.", "url": "u"}
SENTENCE = {"sidx": 0, "type": "sentence", "paper_id": "a/b"}

SAMPLES: dict[str, tuple[Reader, str, dict[str, Any]]] = {
    "nq320k": (corpora.nq320k, ".", {
        "corpus_lite.json": ["Bergen is rainy.", "Oslo has an opera."],
        "dev.json": [["which port", 0], ["opera", [[1, 1]]]],
        "dev.json.seen": [0],
        "dev.json.unseen": [1],
    }),
    "msa": (corpora.msa, ".", {
        "qdata_toy.json": [{"query": "cat?", "reference_list": ["Miso is a cat."], "answer": "Miso"}],
        "mdata_toy.json": ["Miso is a cat."],
    }),
    "msmarco, columns": (corpora.msmarco, "dev.json", {
        "dev.json": {"passages": {"0": [MARCO]}, "query": {"0": "port?"}, "query_type": {"0": "ENTITY"}},
    }),
    "msmarco, lines": (corpora.msmarco, "dev.jsonl", {
        "dev.jsonl": [{"passages": [MARCO], "query": "port?", "query_id": 11, "query_type": "ENTITY"}],
    }),
    "mldr": (corpora.mldr, ".", {
        "corpus.jsonl": [{"docid": "d", "text": "Oslo has an opera."}],
        "test.jsonl": [{"query_id": "q", "query": "opera", "positive_passages": [{"docid": "d"}]}],
    }),
    "lmeb": (corpora.lmeb, ".", {
        "corpus.jsonl": [{"id": "a_1_0", "title": "t", "text": "x"}],
        "candidates.jsonl": [{"scene_id": "a_1", "candidate_doc_ids": ["a_1_0"]}],
        "queries.jsonl": [{"id": "a_1_q", "text": "x?"}],
        "qrels.tsv": "a_1_q\ta_1_0\t1\n",
    }),
    "qasper": (papers.qasper, "q.json", {
        "q.json": {"1909.1": {
            "abstract": "We study.",
            "full_text": [{"section_name": "Intro", "paragraphs": ["Cats purr."]}],
            "qas": [{"question": "How?", "question_id": "h", "answers": [
                {"answer": {"unanswerable": False, "evidence": ["Cats purr."]}},
            ]}],
        }},
    }),
    "peerqa": (papers.peerqa, ".", {
        "papers.jsonl": [
            {**SENTENCE, "idx": 0, "pidx": 0, "content": "Cats."},
            {**SENTENCE, "idx": 1, "pidx": 1, "content": "They purr."},
        ],
        "qa.jsonl": [{
            "paper_id": "a/b", "question_id": "h", "question": "How?", "answerable": True,
            "answer_evidence_mapped": [{"sentence": "They purr.", "idx": [1, None]}],
        }],
    }),
    "covidqa": (papers.covidqa, "c.json", {
        "c.json": {"data": [{"paragraphs": [{
            "context": "Cats purr.", "document_id": 6,
            "qas": [{"question": "How?", "id": 2, "answers": [{"text": "purr", "answer_start": 5}]}],
        }]}]},
    }),
    "halumem": (chats.halumem, "h.jsonl", {
        "h.jsonl": [{"uuid": "u", "sessions": [{
            "start_time": TIME,
            "dialogue": [{"role": "user", "content": "I got Miso", "timestamp": TIME}],
            "memory_points": [{"memory_content": "has Miso"}],
            "questions": [{
                "question": "cat?", "question_type": "Basic", "evidence": [{"memory_content": "has Miso"}],
            }],
        }]}],
    }),
    "beam": (chats.beam, ".", {
        "chat.json": [{"plan-1": [{"turns": [[
            {"role": "user", "id": 0, "time_anchor": "July-01-2024", "content": "Hi ->-> 1,1"},
        ]]}]}],
        "probing_questions/probing_questions.json": {"knowledge_update": [
            {"question": "q", "source_chat_ids": {"original_info": [0]}},
        ]},
    }),
    "longmemeval": (chats.longmemeval, "m.json", {
        "m.json": [{
            "question_id": "q", "question_type": "multi-session", "question": "cat?", "answer": "Miso",
            "haystack_dates": ["2023/05/20 (Sat) 02:21"], "haystack_session_ids": ["s"],
            "haystack_sessions": [[{"role": "user", "content": "I got Miso", "has_answer": True}]],
            "answer_session_ids": ["s"],
        }],
    }),
    "personamem2": (chats.personamem2, ".", {
        "benchmark/text/benchmark.csv": (
            "chat_history_32k_link,user_query,pref_type,related_conversation_snippet\n"
            'a.json,Where?,health,"[{""role"": ""user"", ""content"": ""Pollen.""}]"\n'
        ),
        "a.json": {"chat_history": [{"role": "user", "content": "Pollen."}]},
    }),
}  # fmt: skip


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".jsonl" and isinstance(content, list):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(json.dumps(content))


def read(reader, path):
    return [
        (list(collection.passages()), [question.evidence for question in collection.questions])
        for collection in reader(path)
    ]


def damaged(value):
    """Yield `value` with one of its parts replaced by something else."""
    yield 7
    yield [7] if isinstance(value, list) else None
    places = (
        value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    )
    for place in places:
        for wrong in damaged(value[place]):
            other = copy.copy(value)
            other[place] = wrong
            yield other


@pytest.mark.parametrize("name", SAMPLES)
def test_a_wrong_value_is_refused_with_its_place_or_not_needed(name, tmp_path):
    reader, place, files = SAMPLES[name]
    if reader is papers.covidqa:
        pytest.importorskip("semantic_text_splitter", reason="needs the extra [documents]")
    for file, content in files.items():
        write(tmp_path, file, content)
    [(passages, evidence)] = read(reader, tmp_path / place)
    assert passages
    assert all(evidence)
    refusals = []
    for file, content in files.items():
        for wrong in damaged(content) if not isinstance(content, str) else ():
            write(tmp_path, file, wrong)
            try:
                read(reader, tmp_path / place)
            except DatasetError as error:
                refusals.append(str(error))
        write(tmp_path, file, content)
    assert len(refusals) > 4
    assert all(str(tmp_path) in refusal for refusal in refusals)


@pytest.mark.parametrize(
    ("name", "made", "problem"),
    [
        ("qasper", None, "does not exist"),
        ("qasper", "folder", "is not a file"),
        ("mldr", "file", "is not a folder"),
        ("beam", "folder", r"has no \*\*/chat\*\.json"),
    ],
)
def test_the_error_for_a_missing_set_names_the_problem_and_the_source(
    name, made, problem, tmp_path
):
    path = tmp_path / "set"
    if made == "folder":
        path.mkdir()
    elif made == "file":
        path.write_text("")
    with pytest.raises(DatasetError, match=rf"set {problem}: get the set from https://"):
        documents.digest_of(SETS[name], path)
