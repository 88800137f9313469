"""The sets, with their readers, contents, sources, licences and published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.quality.metrics import SET_TABLE_METRICS, TABLE_METRICS
from benchmarks.sets import chats, corpora, papers
from benchmarks.sets.form import Reader


@dataclass(frozen=True, slots=True)
class Published:
    """Figures that others have published for a set."""

    system: str
    scores: Mapping[str, float]
    """By metric, as the source names it."""
    source: str


@dataclass(frozen=True, slots=True)
class Set:
    """A published set."""

    read: Reader
    what: str
    """Its passages and questions, in one line."""
    where: str
    licence: str
    files: tuple[str, ...] = ()
    """The files that its folder must contain, as patterns; empty if its path is one file."""
    table_metrics: tuple[str, ...] = SET_TABLE_METRICS
    """The metrics of its table."""
    published: tuple[Published, ...] = ()


_EVERMEMMODEL = "EverMind-AI/EverMemModel, README: NQ320K, full text"
_NQ320K = {
    "BM25": 29.7,
    "DocT5Query": 38.0,
    "DPR": 50.2,
    "GTR-Base": 56.0,
    "Qwen3-Embedding-0.6B": 54.0,
    "Qwen3-Embedding-4B": 62.6,
    "DSI-QG": 63.1,
    "NCI": 66.4,
    "GenRet": 68.1,
    "Self Retrieval": 73.3,
    "EverMemModel": 75.5,
}
_MSA = "MSA, arXiv 2603.23516, table 2: a language model's score of the answers, not of retrieval"
_JUDGE = "judge, 0 to 5, mean of nine sets"

SETS: dict[str, Set] = {
    "nq320k": Set(
        corpora.nq320k,
        "questions to Google, Wikipedia pages; `seen` and `unseen` by training",
        "https://github.com/sunnweiwei/GenRet, dataset/nq320k.zip",
        "Natural Questions: CC BY-SA 3.0; none stated for this selection",
        ("corpus_lite.json", "dev.json", "dev.json.seen", "dev.json.unseen"),
        ("hit@1", "hit@10", "mrr"),
        tuple(Published(name, {"R@1": score}, _EVERMEMMODEL) for name, score in _NQ320K.items()),
    ),
    "msa": Set(
        corpora.msa,
        "one of MSA's memory banks (`ms_100M`, `hotpotqa`, `musique` …) and its questions",
        "https://huggingface.co/datasets/EverMind-AI/MSA-RAG-BENCHMARKS, converted from pickles",
        "see the dataset and the sets that it consists of",
        ("qdata_*.json", "mdata_*.json"),
        ("hit@1", "hit@5", "hit@10", "f1@1", "f1@5", "f1@10"),
        (
            Published("Qwen3-4B, retrieval of 10", {_JUDGE: 3.242}, _MSA),
            Published("Qwen3-4B, retrieval of 10, reranked", {_JUDGE: 3.372}, _MSA),
            Published("HippoRAG2, retrieval of 10", {_JUDGE: 3.275}, _MSA),
            Published("MSA", {_JUDGE: 3.760}, _MSA),
        ),
    ),
    "msmarco": Set(
        corpora.msmarco,
        "MS MARCO question answering: queries to Bing, all passages of the file as one corpus",
        "https://microsoft.github.io/msmarco/, dev_v2.1.json.gz, or a v1.1 file",
        "for non-commercial research, see there",
    ),
    "mldr": Set(
        corpora.mldr,
        "MLDR: long documents in 13 languages, one language's folder",
        "https://huggingface.co/datasets/Shitao/MLDR, mldr-v1.0-en and others",
        "MIT",
        ("corpus.jsonl*", "test.jsonl*"),
    ),
    "lmeb": Set(
        corpora.lmeb,
        "LMEB's 22 tasks, or one task's folder: LoCoMo, ESG-Reports, Covid-QA, NovelQA …",
        "https://huggingface.co/datasets/KaLM-Embedding/LMEB",
        "by task, see benchmarks/quality/lmeb.py",
        ("**/queries.jsonl", "**/corpus.jsonl", "**/qrels.tsv", "**/candidates.jsonl"),
        TABLE_METRICS,
    ),
    "qasper": Set(
        papers.qasper,
        "QASPER: questions about papers in language processing, paragraphs as evidence",
        "https://allenai.org/data/qasper, qasper-test-v0.3.json",
        "CC BY 4.0",
    ),
    "peerqa": Set(
        papers.peerqa,
        "PeerQA: questions of reviewers, answered by authors, sentences as evidence",
        "https://github.com/UKPLab/PeerQA, papers.jsonl (made by its scripts) and qa.jsonl",
        "CC BY-NC-SA 4.0",
        ("papers.jsonl", "qa.jsonl"),
        ("hit@1", "recall@10", "mrr"),
    ),
    "covidqa": Set(
        papers.covidqa,
        "COVID-QA: questions about medical articles, spans as evidence",
        "https://github.com/deepset-ai/COVID-QA, data/question-answering/COVID-QA.json",
        "Apache-2.0",
    ),
    "halumem": Set(
        chats.halumem,
        "HaluMem: chats of 20 people, sessions as evidence",
        "https://huggingface.co/datasets/IAAR-Shanghai/HaluMem, HaluMem-Medium.jsonl or -Long",
        "CC BY-NC-ND 4.0",
    ),
    "beam": Set(
        chats.beam,
        "BEAM: chats of 100 thousand to 10 million tokens",
        "https://github.com/mohammadtavakoli78/BEAM, chats/1M or chats/10M",
        "none stated in the repository; see the authors' dataset card",
        ("**/chat*.json", "**/probing_questions.json"),
        ("recall@5", "recall@10", "ndcg@10"),
    ),
    "longmemeval": Set(
        chats.longmemeval,
        "LongMemEval: one history per question; `_m` has about 500 sessions in each",
        "https://huggingface.co/datasets/xiaowu0162/longmemeval-cleaned, longmemeval_m_cleaned.json",
        "MIT",
        table_metrics=("recall@5", "recall@10", "ndcg@10"),
    ),
    "personamem2": Set(
        chats.personamem2,
        "PersonaMem-v2: preferences that are implied in histories of 32,000 tokens",
        "https://huggingface.co/datasets/bowen-upenn/PersonaMem-v2",
        "CC BY 4.0",
        ("benchmark/text/benchmark.csv",),
    ),
    "personamem2-128k": Set(
        partial(chats.personamem2, history="chat_history_128k_link"),
        "the same questions after histories of 128,000 tokens",
        "https://huggingface.co/datasets/bowen-upenn/PersonaMem-v2",
        "CC BY 4.0",
        ("benchmark/text/benchmark.csv",),
    ),
}
