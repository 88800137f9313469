"""Sets of documents and long histories: each layout, as its authors publish it, in a few lines."""

import gzip
import json
import pickle

import pytest

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.datasets.base import DatasetError, read_members, read_records
from benchmarks.reporting.log import Log
from benchmarks.sets import chats, corpora, documents, papers
from benchmarks.sets.form import digest, passages_of
from benchmarks.sets.pickles import convert
from benchmarks.sets.table import SETS
from benchmarks.systems.encoders import Encoders
from evomem import HashEncoder, Memory
from evomem.records import MAX_CHARS
from tests.conftest import ROOT


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
    return path


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, "utf-8")
    return path


def texts(collection):
    """Return label → texts of a collection's passages."""
    by_label: dict[str, list[str]] = {}
    for passage in collection.passages():
        by_label.setdefault(passage.label, []).append(passage.turn.text)
    return by_label


def evidence(collection):
    return [set(asked.evidence) for asked in collection.questions]


# One corpus --------------------------------------------------------------------------------

CORPUS = ["Bergen is a rainy port.", "Oslo has a new opera.", "Miso is a cat of nine years."]


@pytest.fixture
def nq(tmp_path):
    folder = tmp_path / "nq320k"
    write(folder / "corpus_lite.json", CORPUS)
    write(
        folder / "dev.json", [["which port is rainy", 0], ["opera in oslo", [[1, 1]]], ["cat", 2]]
    )
    write(folder / "dev.json.seen", [0, 2])
    write(folder / "dev.json.unseen", [1])
    return folder


def test_nq320k_documents_are_known_by_their_place_and_questions_by_seen_and_unseen(nq):
    [collection] = corpora.nq320k(nq)
    assert texts(collection)["1"] == ["User: Oslo has a new opera."]
    assert evidence(collection) == [{"0"}, {"1"}, {"2"}]
    assert [asked.type for asked in collection.questions] == ["seen", "unseen", "seen"]


@pytest.mark.parametrize(("question", "labels"), corpora.MSA_KEYS)
def test_msa_documents_are_known_by_their_texts_in_both_layouts(tmp_path, question, labels):
    write(tmp_path / "mdata_toy.json", [*CORPUS, CORPUS[0]])
    row = {question: "Which cat?", labels: [CORPUS[2], CORPUS[0]], "answer": "Miso"}
    write(tmp_path / "qdata_toy.json", [row])
    [collection] = corpora.msa(tmp_path)
    assert evidence(collection) == [{digest(CORPUS[2]), digest(CORPUS[0])}]
    assert len(texts(collection)[digest(CORPUS[0])]) == 2  # equal texts are one document


def test_msas_pickles_are_refused_with_the_command_that_converts_them(tmp_path):
    (tmp_path / "qdata_toy.pkl").write_bytes(pickle.dumps([]))
    with pytest.raises(DatasetError, match=r"python -m benchmarks pickles .*qdata_toy\.pkl"):
        list(corpora.msa(tmp_path))


MARCO = [
    {
        "query_id": 7,
        "query": "which cat",
        "query_type": "ENTITY",
        "answers": ["Miso"],
        "passages": [
            {"is_selected": 0, "passage_text": CORPUS[0], "url": "a"},
            {"is_selected": 1, "passage_text": CORPUS[2], "url": "b"},
        ],
    },
    {
        "query_id": 8,
        "query": "who won",
        "query_type": "PERSON",
        "answers": ["No Answer Present."],
        "passages": [{"is_selected": 0, "passage_text": CORPUS[0], "url": "a"}],
    },
]


def columns(rows):
    names = [name for name in rows[0] if name != "query_id"]
    return {name: {str(row["query_id"]): row[name] for row in rows} for name in names}


@pytest.mark.parametrize("layout", ["v1.1", "v2.1"])
def test_ms_marcos_passages_are_one_corpus_in_lines_and_in_columns(tmp_path, layout):
    path = tmp_path / "dev.json.gz"
    if layout == "v1.1":
        lines(path, *MARCO)
    else:
        path.write_bytes(gzip.compress(json.dumps(columns(MARCO)).encode()))
    [collection] = corpora.msmarco(path)
    assert set(texts(collection)) == {digest(CORPUS[0]), digest(CORPUS[2])}
    assert evidence(collection) == [{digest(CORPUS[2])}, set()]
    assert collection.questions[0].type == "ENTITY"


def test_mldr_is_read_packed(tmp_path):
    lines(
        tmp_path / "corpus.jsonl.gz", *({"docid": f"d{n}", "text": t} for n, t in enumerate(CORPUS))
    )
    query = {"query_id": "q", "query": "opera", "positive_passages": [{"docid": "d1", "text": ""}]}
    lines(tmp_path / "test.jsonl.gz", query | {"negative_passages": []})
    [collection] = corpora.mldr(tmp_path)
    assert list(texts(collection)) == ["d0", "d1", "d2"]
    assert evidence(collection) == [{"d1"}]


@pytest.fixture
def lmeb(tmp_path):
    task = tmp_path / "LMEB" / "Dialogue" / "LoCoMo"
    rows = [("a_1_0", "Ann: hi"), ("a_1_1", "Ann: my cat"), ("b_1_0", "Bob: a dog")]
    lines(task / "corpus.jsonl", *({"id": i, "title": "8 May", "text": t} for i, t in rows))
    lines(
        task / "candidates.jsonl",
        {"scene_id": "a_1", "candidate_doc_ids": ["a_1_0", "a_1_1"]},
        {"scene_id": "b_1", "candidate_doc_ids": ["b_1_0"]},
    )
    for subset in ("single_hop", "multi_hop"):
        folder = task / subset
        lines(
            folder / "queries.jsonl",
            {"id": "a_1_q", "text": "cat?"},
            {"id": "b_1_q", "text": "dog?"},
        )
        (folder / "qrels.tsv").write_text("a_1_q\ta_1_1\t1\nb_1_q\tb_1_0\t1\n")
    return tmp_path / "LMEB"


def test_lmebs_candidates_are_collections_in_the_corpus_order(lmeb):
    collections = list(corpora.lmeb(lmeb))
    assert [each.id for each in collections] == [
        *("LMEB/Dialogue/LoCoMo/multi_hop/0", "LMEB/Dialogue/LoCoMo/multi_hop/1"),
        *("LMEB/Dialogue/LoCoMo/single_hop/0", "LMEB/Dialogue/LoCoMo/single_hop/1"),
    ]
    assert texts(collections[2]) == {
        "a_1_0": ["User: 8 May Ann: hi"],
        "a_1_1": ["User: 8 May Ann: my cat"],
    }
    assert evidence(collections[2]) == [{"a_1_1"}]


# Papers ------------------------------------------------------------------------------------


def answer(*marked, unanswerable=False):
    return {
        "answer": {"unanswerable": unanswerable, "evidence": list(marked), "free_form_answer": ""}
    }


def test_qaspers_evidence_is_what_any_annotator_marked(tmp_path):
    paper = {
        "title": "Cats",
        "abstract": "We study cats.",
        "full_text": [
            {"section_name": "Intro", "paragraphs": ["Cats purr.", ""]},
            {"section_name": "Method ::: Data", "paragraphs": ["Ten cats were asked."]},
        ],
        "qas": [
            {"question": "How many?", "question_id": "1", "answers": [answer("Ten cats were asked."), answer("Cats purr.")]},
            {"question": "Which figure?", "question_id": "2", "answers": [answer("FLOAT SELECTED: Figure 1")]},
            {"question": "Why?", "question_id": "3", "answers": [answer(unanswerable=True)]},
        ],
    }  # fmt: skip
    [collection] = papers.qasper(write(tmp_path / "qasper.json", {"1909.1": paper}))
    assert [text for [text] in texts(collection).values()] == [
        *("User: We study cats.", "User: Cats purr.", "User: Ten cats were asked.")
    ]
    assert evidence(collection) == [{"1", "3"}, set(), set()]
    assert [asked.why_left_out for asked in collection.questions] == [
        *("", "its evidence names no turn", "abstention")
    ]
    assert [passage.turn.session for passage in collection.passages()] == [
        *("Abstract", "Intro", "Method ::: Data")
    ]


def test_peerqas_sentences_make_paragraphs_and_evidence_follows(tmp_path):
    sentences = [(0, 0, 0, "Cats."), (1, 1, 0, "Ten were asked."), (2, 1, 1, "Two purred.")]
    lines(
        tmp_path / "papers.jsonl",
        *(
            {
                "paper_id": "p",
                "idx": idx,
                "pidx": pidx,
                "sidx": sidx,
                "type": "sentence",
                "content": text,
            }
            for idx, pidx, sidx, text in sentences
        ),
    )
    base = {"paper_id": "p", "answerable": True}
    lines(
        tmp_path / "qa.jsonl",
        {**base, "question_id": "1", "question": "How many?", "answer_evidence_mapped": [{"sentence": "", "idx": [2, None]}]},
        {**base, "question_id": "2", "question": "Why?", "answer_evidence_mapped": None, "answerable": False},
    )  # fmt: skip
    [collection] = papers.peerqa(tmp_path)
    assert texts(collection) == {"0": ["User: Cats."], "1": ["User: Ten were asked. Two purred."]}
    assert evidence(collection) == [{"1"}, set()]
    assert collection.questions[1].why_left_out == "abstention"


def test_covid_qas_spans_become_passages(tmp_path):
    pytest.importorskip("semantic_text_splitter", reason="needs the extra [documents]")
    context = "\n\n".join(f"Part {n}. {'It was seen in a clinic. ' * 30}" for n in range(6))
    needle = "Part 4."

    def qa(id, text, start):
        answers = [{"text": text, "answer_start": start}]
        return {"id": id, "question": "Which?", "answers": answers, "is_impossible": False}

    qas = [qa(1, needle, context.index(needle)), qa(2, needle, 3), qa(3, "nowhere", 0)]
    article = {"paragraphs": [{"context": context, "document_id": 9, "qas": qas}]}
    [collection] = papers.covidqa(write(tmp_path / "COVID-QA.json", {"data": [article]}))
    found = texts(collection)
    assert all(len(text) <= papers.MAX_PASSAGE_CHARS + 6 for [text] in found.values())
    [label] = evidence(collection)[0]
    assert needle in found[label][0]
    assert evidence(collection)[1:] == [{label}, set()]


# Chats -------------------------------------------------------------------------------------


def test_halumems_evidence_is_the_session_of_the_memory(tmp_path):
    def session(text, memory, *questions):
        return {
            "start_time": "Dec 15, 2025, 06:11:23",
            "dialogue": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": "Oh."},
            ],
            "memory_points": [{"memory_content": memory}] if memory else [],
            "questions": list(questions),
        }

    def question(memory):
        return {
            "question": "Which cat?",
            "question_type": "Basic",
            "evidence": [{"memory_content": memory}],
        }

    person = {
        "uuid": "u",
        "sessions": [session("I got Miso.", "A cat called Miso."), session("It rains.", None, question("A cat called Miso."), question("A dog."))],
    }  # fmt: skip
    [collection] = chats.halumem(lines(tmp_path / "HaluMem-Medium.jsonl", person))
    assert texts(collection)["0"] == ["User: I got Miso.", "Assistant: Oh."]
    assert evidence(collection) == [{"0"}, set()]
    assert collection.questions[1].why_left_out == "its evidence names no turn"


def message(id, text, role="user", **more):
    return {"role": role, "id": id, "content": text, **more}


@pytest.mark.parametrize("size", ["1M", "10M"])
def test_beams_messages_are_read_without_the_pointer_into_the_plan(tmp_path, size):
    def batch(*turns):
        return {"batch_number": 1, "turns": [list(turn) for turn in turns]}

    first = batch(
        [
            message(0, "I use Flask. ->-> 1,4", time_anchor="March-15-2024"),
            message(1, "Good.", "assistant"),
        ]
    )
    second = batch([message(2, "Now Django. ->-> 4,N/A")])
    chat = [first, second] if size == "1M" else [{"plan-1": [first]}, {"plan-2": [second]}]
    folder = tmp_path / size / "1"
    write(folder / "chat.json", chat)
    probes = {
        "abstention": [{"question": "Who?", "rubric": []}],
        "knowledge_update": [{"question": "Which?", "source_chat_ids": {"original_info": [0], "updated_info": [2]}}],
    }  # fmt: skip
    write(folder / "probing_questions" / "probing_questions.json", probes)
    [collection] = chats.beam(tmp_path / size)
    assert texts(collection) == {
        **{"0": ["User: I use Flask."], "1": ["Assistant: Good."], "2": ["User: Now Django."]}
    }
    assert evidence(collection) == [set(), {"0", "2"}]
    turns = [passage.turn for passage in collection.passages()]
    assert [turn.session for turn in turns] == ["1", "1", "2"]
    assert f"{turns[1].time:%d %B %Y}" == "15 March 2024"


def test_longmemeval_is_read_a_history_at_a_time(tmp_path):
    record = {
        "question_id": "q",
        "question_type": "multi-session",
        "question": "Which cat?",
        "answer": "Miso",
        "haystack_dates": ["2023/05/20 (Sat) 02:21"],
        "haystack_session_ids": ["answer_1"],
        "haystack_sessions": [[{"role": "user", "content": "I got Miso.", "has_answer": True}]],
        "answer_session_ids": ["answer_1"],
    }
    collections = chats.longmemeval(write(tmp_path / "m.json", [record]))
    assert evidence(next(collections)) == [{"0"}]


@pytest.mark.parametrize("wrapped", [True, False])
def test_personamems_evidence_is_the_snippet_that_reveals_the_preference(tmp_path, wrapped):
    history = [message(0, "You are Ann.", "system"), message(0, "Mail about pollen."), message(0, "Done.", "assistant")]  # fmt: skip
    link = "data/chat_history_32k/a.json"
    write(tmp_path / link, {"metadata": {}, "chat_history": history} if wrapped else history)
    query = {"role": "user", "content": "Where should I walk?"}
    row = {
        "persona_id": 1,
        "chat_history_32k_link": link,
        "user_query": str(query),
        "pref_type": "health",
        "related_conversation_snippet": json.dumps(
            [{"role": "user", "content": "Mail about pollen."}]
        ),
    }
    table = tmp_path / "benchmark" / "text" / "benchmark.csv"
    table.parent.mkdir(parents=True)
    quoted = ['"' + str(value).replace('"', '""') + '"' for value in row.values()]
    table.write_text(f"{','.join(row)}\n{','.join(quoted)}\n")
    [collection] = chats.personamem2(tmp_path)
    assert texts(collection) == {"0": ["User: Mail about pollen."], "1": ["Assistant: Done."]}
    assert evidence(collection) == [{"0"}]
    assert collection.questions[0].text == "Where should I walk?"


# What they share ---------------------------------------------------------------------------


def test_a_text_that_is_too_long_for_a_turn_becomes_passages_of_one_label():
    found = list(passages_of("d", "x" * (MAX_CHARS + 1), "here"))
    assert [(each.label, len(each.turn.user)) for each in found] == [("d", MAX_CHARS), ("d", 1)]
    assert not list(passages_of("d", "  \n", "here"))
    with pytest.raises(DatasetError, match="here: the text is None"):
        list(passages_of("d", None, "here"))


@pytest.mark.parametrize("chunk", [1, 5, 10_000])
def test_members_and_columns_are_read_one_by_one(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("benchmarks.datasets.base.CHUNK", chunk)
    value = {"a": 12, "b": [1, "}"], "c": {"d": None}, "e": True}
    path = write(tmp_path / "object.json", value)
    assert dict(read_members(path)) == value
    numbers = write(tmp_path / "list.json", [1, 23, "x", 4.5])
    assert [item for _, item in read_records(numbers)] == [1, 23, "x", 4.5]
    path.write_text('{"a": 12, "b"')
    with pytest.raises(DatasetError, match=r"object\.json is not JSON of the expected structure"):
        dict(read_members(path))


class Watched(HashEncoder):
    read_turns = 0

    def read(self, state, turns):
        self.read_turns += len(turns)
        return super().read(state, turns)


@pytest.fixture
def encoder(monkeypatch):
    made = Watched()
    monkeypatch.setattr("benchmarks.systems.encoders.load_encoder", lambda name, **_: made)
    return made


def run(nq, out, *systems):
    argv = [str(nq), "--set", "nq320k", "--out", str(out)]
    return benchmarks_main(["documents", *argv, *(f"--system={name}" for name in systems)])


def test_a_run_scores_seen_and_unseen_and_shows_published_rows_beside_ours(nq, tmp_path, capsys):
    assert run(nq, tmp_path / "out", "evomem/lexical/hash", "bm25") == 0
    text = capsys.readouterr().out
    assert "nq320k · 1 collections · 3 questions scored" in text
    assert "unseen · evomem/lexical/hash" in text
    assert "as published, not measured here:" in text
    assert "EverMemModel: R@1 75.5" in text
    result = json.loads((tmp_path / "out" / "documents_nq320k.json").read_text())
    [stored, held] = result["rows"]
    for row in (stored, held):
        assert row["overall"]["all"]["hit@10"] == [1, 1, 1]
        assert set(row["types"]) == {"seen", "unseen"}
    assert result["counts"] == {"collections": 1, "questions": 3, "scored": 3, "left_out": {}}


def test_a_run_that_was_interrupted_stores_and_asks_only_what_is_left(
    nq, tmp_path, encoder, monkeypatch
):
    out = tmp_path / "out"
    rank = documents.DatabaseIndex.rank

    def broken(self, question):
        if question == "cat":
            raise KeyboardInterrupt
        return rank(self, question)

    monkeypatch.setattr(documents.DatabaseIndex, "rank", broken)
    with pytest.raises(KeyboardInterrupt):
        run(nq, out, "evomem/hybrid/hash")
    assert encoder.read_turns == 3
    assert list(out.rglob("*.db"))
    monkeypatch.setattr(documents.DatabaseIndex, "rank", rank)
    assert run(nq, out, "evomem/hybrid/hash") == 0
    assert encoder.read_turns == 3
    assert not list(out.rglob("*.db"))  # rankings are kept, databases are not
    assert run(nq, out, "evomem/hybrid/hash") == 0
    assert encoder.read_turns == 3


def test_passages_reach_a_database_in_batches(nq, encoder, monkeypatch):
    monkeypatch.setattr(documents, "BATCH", 2)
    sizes = []
    add_many = Memory.add_many

    def counted(self, items, **options):
        listed = list(items)
        sizes.append(len(listed))
        return add_many(self, listed, **options)

    monkeypatch.setattr(Memory, "add_many", counted)
    logs = {"evomem/hybrid/hash": Log(None, "x", {})}
    documents.rank_set(SETS["nq320k"], nq, logs, Encoders(), None)
    assert sizes == [2, 1]


def test_a_system_that_holds_everything_refuses_a_large_corpus(nq, monkeypatch, capsys):
    monkeypatch.setattr(documents, "MAX_IN_MEMORY", 2)
    assert benchmarks_main(["documents", str(nq), "--set", "nq320k", "--system", "bm25"]) == 2
    assert "bm25 needs all passages in memory, but there are more than 2" in capsys.readouterr().err


def test_a_missing_file_is_named_with_where_to_get_it(nq, capsys):
    (nq / "dev.json.seen").unlink()
    assert run(nq, nq, "bm25") == 2
    assert "has no dev.json.seen: get the set from https://github.com/sunnweiwei/GenRet" in (
        capsys.readouterr().err
    )


def test_every_set_is_on_the_page_of_its_command():
    page = (ROOT / "docs/measurements/documents.md").read_text()
    assert not [name for name in SETS if f"`{name}`" not in page]


# Pickles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_lists_dictionaries_and_strings_becomes_json(tmp_path, protocol):
    value = [{"query": "Which?", "reference_list": ["a", "a"], "answer": "ü"}, {}, [], ["b"] * 2500]
    path = tmp_path / "qdata_toy.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert benchmarks_main(["pickles", str(path)]) == 0
    assert json.loads((tmp_path / "qdata_toy.json").read_text("utf-8")) == value


class Calls:
    def __reduce__(self):
        return (print, ("called",))


SHARED_LIST = ["a"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Calls(), "STACK_GLOBAL"),
        (["a", 1], r"strings are allowed, but at byte \d+ there is BININT1"),
        ([("a",)], "TUPLE1"),
        ({"a": {"b"}}, "EMPTY_SET"),
        ({1: "a"}, "BININT1"),
        ([SHARED_LIST, SHARED_LIST], "the same list occurs in two places"),
    ],
)
def test_any_other_pickle_is_refused_and_nothing_runs_or_is_written(
    tmp_path, capsys, value, message
):
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(DatasetError, match=message):
        convert(path)
    assert "called" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04]\x94(\x8c",  # cut off
        b"]e.",  # APPENDS without a mark
        b"](.",  # a mark is left
        b"](a.",  # APPEND of a mark
        b"e.",  # no list
        b"}(\x8c\x01au.",  # a key without a value
        b"}\x8c\x01aa.",  # APPEND to a dictionary
        b".",
        b"h\x00.",  # GET of nothing
    ],
)
def test_a_file_that_is_not_a_pickle_is_refused(tmp_path, data):
    path = tmp_path / "bad.pkl"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"bad\.pkl: this is not a pickle"):
        convert(path)
