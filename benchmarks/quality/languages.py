"""Is the right turn found in languages other than English? Forty facts in nine languages.

The facts and questions in languages.json were written by the authors of evomem and not checked by
native speakers: a small test in plain wordings, which shows large differences and no others. All
turns of one language are one memory, each question has one answer, and nothing was tuned on them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evomem
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.reporting.output import finish, setting, table
from evomem import Encoder, Turn, load_encoder
from evomem.memory_view import Mode

FACTS = Path(__file__).with_name("languages.json")
ENCODERS = ("mini", "static", "multi")
ENGLISH = "en"
TITLES = {"lexical": "words alone", "evolvable": "{}", "hybrid": "{}, hybrid"}
Facts = dict[str, list[tuple[str, str]]]
"""Language → a turn and a question about it, the same fact at the same place in every language."""
Firsts = dict[str, list[float]]
"""Language → of each fact, 1 if its turn is the first hit, else 0."""


def facts() -> Facts:
    """Return the facts of `FACTS`."""
    given = json.loads(FACTS.read_text("utf-8"))
    return {language: [(turn, asked) for turn, asked in rows] for language, rows in given.items()}


def first_hits(told: Facts, encoder: Encoder, modes: Sequence[Mode]) -> dict[Mode, list[Firsts]]:
    """Ask every question of its language's memory, then the English ones: two results a mode."""
    firsts: dict[Mode, list[Firsts]] = {mode: [{}, {}] for mode in modes}
    for language, rows in told.items():
        with evomem.open(":memory:", encoder=encoder) as database:
            memory = database.memory(language)
            memory.add_many([Turn(user=turn) for turn, _ in rows])
            for source, part in ((language, 0), (ENGLISH, 1)):
                if part and language == ENGLISH:
                    continue
                questions = [asked for _, asked in told[source]]
                for mode in modes:
                    hits = [memory.search(question, 1, mode=mode) for question in questions]
                    firsts[mode][part][language] = [
                        float(bool(best) and best[0].seq == number)
                        for number, best in enumerate(hits, 1)
                    ]
    return firsts


def summary(firsts: Firsts) -> dict[str, list[float]]:
    """Return the mean of each language and of "all" but English, each with its interval.

    A fact's questions in several languages are drawn together.
    """
    others = {language: values for language, values in firsts.items() if language != ENGLISH}
    numbers = [str(n) for values in others.values() for n in range(len(values))]
    flat = [value for values in others.values() for value in values]
    result = {"all": Resampling(numbers, ["all"] * len(flat)).interval(flat)}
    for language, values in firsts.items():
        facts = list(map(str, range(len(values))))
        result[language] = Resampling(facts, ["all"] * len(values)).interval(values)
    return {language: [i.mean, i.low, i.high] for language, i in result.items()}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("languages", argv), "same": {}, "across": {}}

    def run() -> None:
        told = facts()
        for name in (None, *options.encoder):
            encoder = load_encoder(name or "hash")
            modes: Sequence[Mode] = ("evolvable", "hybrid") if name else ("lexical",)
            for mode, (same, across) in first_hits(told, encoder, modes).items():
                title = TITLES[mode].format(name)
                result["same"][title], result["across"][title] = summary(same), summary(across)
        for part, title in (
            ("same", "question and turn in one language"),
            ("across", "English question"),
        ):
            print(f"\nfirst hits, %: {title}\n{_table(result[part])}")

    return finish(result, options.out, run)


def _table(rows: dict[str, dict[str, list[float]]]) -> str:
    languages = [language for language in next(iter(rows.values())) if language != "all"]
    return table(
        ["system", *languages, "all but English"],
        [
            [
                name,
                *(f"{100 * row[language][0]:.0f}" for language in languages),
                str(Interval(*row["all"])),
            ]
            for name, row in rows.items()
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks languages", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--encoder", nargs="+", default=ENCODERS, metavar="NAME")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
