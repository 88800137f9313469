"""Do searches find the right turn in languages other than English? Forty facts in nine languages.

The facts and questions in languages.json were written by the authors of evomem and not checked by native
speakers. It is a small test with simple wordings, which only shows large differences. All turns of a
language are one memory, each question has one answer, and nothing was tuned on them.
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
"""Language → (turn, question) of every fact, in the same order in every language."""
Firsts = dict[str, list[float]]
"""Language → for every fact, 1 if its turn is the first hit, otherwise 0."""


def load_facts() -> Facts:
    """Return the facts in the file `FACTS`."""
    contents = json.loads(FACTS.read_text("utf-8"))
    return {
        language: [(turn, question) for turn, question in rows]
        for language, rows in contents.items()
    }


def first_hits(facts: Facts, encoder: Encoder, modes: Sequence[Mode]) -> dict[Mode, list[Firsts]]:
    """Search each language's memory with its own questions and with the English ones.

    Returns:
        For each mode, the results of both.
    """
    firsts: dict[Mode, list[Firsts]] = {mode: [{}, {}] for mode in modes}
    for language, rows in facts.items():
        with evomem.open(":memory:", encoder=encoder) as database:
            memory = database.memory(language)
            memory.add_many([Turn(user=turn) for turn, _ in rows])
            for source, part in ((language, 0), (ENGLISH, 1)):
                if part and language == ENGLISH:
                    continue
                questions = [question for _, question in facts[source]]
                for mode in modes:
                    hits = [memory.search(question, 1, mode=mode) for question in questions]
                    firsts[mode][part][language] = [
                        float(bool(best) and best[0].seq == number)
                        for number, best in enumerate(hits, 1)
                    ]
    return firsts


def summary(firsts: Firsts) -> dict[str, list[float]]:
    """Return the mean of each language, and of "all" languages except English, with intervals.

    The questions about a fact in several languages are resampled together.
    """
    others = {language: values for language, values in firsts.items() if language != ENGLISH}
    numbers = [str(n) for values in others.values() for n in range(len(values))]
    flat = [value for values in others.values() for value in values]
    result = {"all": Resampling(numbers, ["all"] * len(flat)).interval(flat)}
    for language, values in firsts.items():
        fact_numbers = list(map(str, range(len(values))))
        result[language] = Resampling(fact_numbers, ["all"] * len(values)).interval(values)
    return {language: [i.mean, i.low, i.high] for language, i in result.items()}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("languages", argv), "same": {}, "across": {}}

    def run() -> None:
        all_facts = load_facts()
        for name in (None, *options.encoder):
            encoder = load_encoder(name or "hash")
            modes: Sequence[Mode] = ("evolvable", "hybrid") if name else ("lexical",)
            for mode, (same, across) in first_hits(all_facts, encoder, modes).items():
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
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
