"""Does a word find the only sentence that contains it? Lexical search in many languages.

The sentences come from Django's translations (BSD licence; `pip install django`) or from a file. A query
is a word that occurs in exactly one sentence and in no other, not even as part of a longer word.
"""

from __future__ import annotations

import argparse
import gettext
import json
import random
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import regex

import evomem
from benchmarks.reporting.output import finish, setting, table
from evomem import Turn
from evomem.errors import MissingExtra
from evomem_stores.words.terms import terms

SEGMENTED = ("th", "lo", "km", "my", "ja", "zh_Hans", "zh_Hant")
"""Languages without spaces between words, which ICU segments, for the queries only."""

LANGUAGES = (
    *(
        "hi",
        "bn",
        "ml",
        "ne",
        "mr",
        "ta",
        "te",
        "pa",
        "ar",
        "he",
        "fa",
        "ur",
        "tr",
        "vi",
        "es",
        "fr",
    ),
    *("de", "cs", "pl", "pt", "ru", "uk", "el", "th", "km", "my", "ja", "zh_Hans", "ko", "en_GB"),
)
MIN_CHARS = 25  # shorter texts are labels, not sentences
DEPTH = 1000
_PLACEHOLDER = regex.compile(r"%\([^)]*\)\w?|%\w|\{[^}]*\}|<[^>]*>|&\w+;")
_WORD = regex.compile(r"[\p{L}\p{M}\u200c\u200d]+")
_ACCENT = regex.compile(r"(?<!и)[\u0300-\u036f]")  # й is a letter, not an accented и
_LETTERS = str.maketrans({"đ": "d", "ł": "l", "ø": "o"})


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and the sentence that it should find."""

    text: str
    """The word, possibly without accents."""
    word: str
    """The word as it is in the sentence."""
    sentence: int


def main(argv: Sequence[str]) -> int:
    """Measure each language; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("words", argv), "languages": {}}

    def run() -> None:
        sentences = _read(options.sentences) if options.sentences else None
        languages = options.language or list(sentences or LANGUAGES)
        for language in languages:
            texts = sentences[language] if sentences else django_sentences(language)
            result["languages"][language] = measure(language, texts, options.queries)
        print(report(result["languages"]))

    return finish(result, options.out, run)


def measure(language: str, sentences: Sequence[str], max_queries: int) -> dict[str, Any]:
    """Return how often a word finds its sentence first, and the mean number of wrong hits."""
    folded = [_casefolded(sentence) for sentence in sentences]
    queries = make_queries(language, sentences)
    stripped = [
        Query(bare, query.word, query.sentence)
        for query in queries
        if (bare := _without_accents(query.word)) != query.word
        and not any(bare in sentence for sentence in folded)
    ]
    with evomem.open(":memory:", encoder="hash:1") as db:
        memory = db.memory(language)
        seqs = [record.seq for record in memory.add_many([Turn(user=text) for text in sentences])]

        def search(query: str) -> list[int]:
            hits = memory.search(query, k=DEPTH, mode="lexical")
            return [seqs.index(hit.seq) for hit in hits]

        return {
            "sentences": len(sentences),
            "as written": _scores(queries[:max_queries], folded, search),
            "without accents": _scores(stripped[:max_queries], folded, search),
            "microseconds a sentence": _cpu(sentences),
        }


def make_queries(language: str, sentences: Sequence[str]) -> list[Query]:
    """Return the words that occur in one sentence, in a random order (seed 0)."""
    folded = [_casefolded(sentence) for sentence in sentences]
    sentence_of: dict[str, int] = {}
    for number, sentence in enumerate(sentences):
        for word in map(_casefolded, _words(language, sentence)):
            if word not in sentence_of and sum(word in other for other in folded) == 1:
                sentence_of[word] = number
    queries = [Query(word, word, number) for word, number in sentence_of.items()]
    random.Random(0).shuffle(queries)
    return queries


def django_sentences(language: str) -> list[str]:
    """Return the sentences of Django's translations into a language, without placeholders."""
    spec = find_spec("django")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("django", "words")
    sentences = set()
    folder = Path(spec.submodule_search_locations[0])
    for path in sorted(folder.glob(f"**/locale/{language}/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            texts = vars(gettext.GNUTranslations(file))["_catalog"].items()
        for source, text in texts:
            text = " ".join(_PLACEHOLDER.sub(" ", text).split())
            if source and len(text) >= MIN_CHARS and _WORD.search(text):
                sentences.add(text)
    return sorted(sentences)


def report(languages: dict[str, Any]) -> str:
    """Return a table with one line per language."""
    rows = []
    for language, entry in languages.items():
        line = [language, str(entry["sentences"])]
        for name in ("as written", "without accents"):
            scores = entry[name]
            line += [f"{scores['first']:.2f}", f"{scores['wrong']:.1f}"] if scores else ["", ""]
        rows.append([*line, f"{entry['microseconds a sentence']:.0f}"])
    head = [
        "language",
        "sentences",
        "first",
        "wrong",
        "first, no accents",
        "wrong",
        "us a sentence",
    ]
    return table(head, rows)


def _scores(
    queries: Sequence[Query], folded: Sequence[str], search: Callable[[str], list[int]]
) -> dict[str, float] | None:
    if not queries:
        return None
    first = wrong = 0
    for query in queries:
        hits = search(query.text)
        first += hits[:1] == [query.sentence]
        wrong += sum(query.word not in folded[hit] for hit in hits)
    count = len(queries)
    return {"queries": count, "first": first / count, "wrong": wrong / count}


def _cpu(sentences: Sequence[str]) -> float:
    """Return the CPU time of the analyser in microseconds per sentence, the best of five runs."""
    times = []
    for _ in range(5):
        start = time.process_time()
        for sentence in sentences:
            terms(sentence)
        times.append(time.process_time() - start)
    return min(times) / len(sentences) * 1e6


def _words(language: str, text: str) -> Iterator[str]:
    segmented = language in SEGMENTED
    if segmented:
        if find_spec("icu4py") is None:
            raise MissingExtra("icu4py", "words")
        from icu4py.breakers import WordBreaker

        words = [str(word) for word in WordBreaker(text, language)]
    else:
        words = _WORD.findall(text)
    shortest = 2 if segmented or language == "ko" else 3
    return (word for word in words if len(word) >= shortest and _WORD.fullmatch(word))


def _casefolded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _without_accents(word: str) -> str:
    bare = _ACCENT.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_LETTERS)


def _read(path: Path) -> dict[str, list[str]]:
    sentences: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
    return sentences


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks words", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--language", action="append", help="such as hi; may be repeated")
    parser.add_argument(
        "--queries", type=int, default=150, help="maximum per language (%(default)s)"
    )
    parser.add_argument("--sentences", type=Path, help='a JSON file: {"hi": ["…", …], …}')
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    return parser
