"""Is the memory used? What an encoder loses when its history is another one, or none.

    python -m benchmarks memory --encoder mini --data realtalk beam realmem

Counterfactual antecedents: "It should get here on Thursday." follows on the telescope in one memory and
on the sewing machine in another. "When does the telescope arrive?" has to be nearer to the first.
Recall: the same questions where every turn and question is read after the turns that were said
before it, after none, after all turns in a random order, and after another conversation's; and
with one constant wish for order in place of every question's own. What memory is worth is a difference
from these, with an interval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks.datasets.base import Conversation, Question
from benchmarks.datasets.find import DEVELOPMENT, MESSAGES, add_arguments, load_all
from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.memory_cases import CASES, Case
from benchmarks.quality.metrics import recall
from benchmarks.reporting.output import positive, setting, table, write_json
from benchmarks.systems.base import best
from benchmarks.systems.encoders import Encoders
from evomem import Encoder, Turn
from evomem.batching import embed_batch, read_batch
from evomem.encoder import Job
from evomem.errors import EvomemError
from evomem.state import State, Vectors

K = 10
BETWEEN = (0, 2)
"""Turns about something else between an opening and what follows on it."""
FILLERS = (
    "Good morning, by the way.",
    "Wait, somebody is at the door.",
    "Sorry, back again.",
    "The rain has stopped here.",
    "I made some tea.",
)
SPEAKERS = ("Ines", "Joel")
JOBS = 32  # turns after histories of their own that are read in one call
Bools = npt.NDArray[np.float64]


def main(argv: Sequence[str]) -> int:
    """Run the tests; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("memory", argv), "counterfactual": {}, "recall": {}}
    try:
        encoders = Encoders(options.device)
        names = options.encoder or ["mini"]
        for name in names:
            result["counterfactual"][name] = counterfactual(encoders[name])
        print(_table_of_cases(result["counterfactual"]), flush=True)
        for dataset in load_all(options, (*DEVELOPMENT, *MESSAGES)) if options.recall else ():
            conversations = dataset.conversations[: options.limit]
            for name in names:
                rows = measure(encoders[name], conversations, options.questions, options.test)
                result["recall"].setdefault(dataset.name, {})[name] = rows
                print(_table_of_recall(dataset.name, name, rows), flush=True)
                if options.out:
                    write_json(options.out, result)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out:
        write_json(options.out, result)
    return 0


# ------------------------------------------------------------------------------ counterfactual


def counterfactual(encoder: Encoder, cases: Sequence[Case] = CASES) -> dict[str, Any]:
    """Return, for each distance, the share of right cases, and how far the cosine moves.

    `apart`: the follow-up in two memories that differ in the opening alone, and a question that is read
    after nothing. `together`: both openings, each with its follow-up, in one memory, and a question
    that is read after all of it, in either order.
    """
    result: dict[str, Any] = {}
    for between in BETWEEN:
        right, moved = _apart(encoder, cases, between)
        resampling = Resampling(
            [str(n) for n in range(len(cases)) for _ in (0, 1)], [""] * len(right)
        )
        result[str(between)] = {
            "apart": _numbers(resampling.interval(right)),
            "movement": _numbers(resampling.interval(moved)),
            "together": _numbers(resampling.interval(_together(encoder, cases, between))),
        }
    return result


def _apart(
    encoder: Encoder, cases: Sequence[Case], between: int
) -> tuple[list[float], list[float]]:
    empty: State[Turn] = State.empty(encoder.spec)
    jobs = [(empty, _scene(case, which, between)) for case in cases for which in (0, 1)]
    read = read_batch(encoder, jobs)
    turns = np.stack([readings[-1].embedding for readings in read]).reshape(len(cases), 2, -1)
    asked = [question for case in cases for question in case.questions]
    queries = encoder.embed_queries(empty, asked).reshape(len(cases), 2, -1)
    scores = np.einsum("cqd,cfd->cqf", queries, turns)  # case, question, follow-up
    gains = np.stack([scores[:, 0, 0] - scores[:, 0, 1], scores[:, 1, 1] - scores[:, 1, 0]], 1)
    return _won(gains).tolist(), gains.reshape(-1).tolist()


def _together(encoder: Encoder, cases: Sequence[Case], between: int) -> list[float]:
    empty: State[Turn] = State.empty(encoder.spec)
    gains = []
    for order in ((0, 1), (1, 0)):
        jobs, places = [], []
        for case in cases:
            scenes = [_scene(case, which, between) for which in order]
            turns = [*scenes[0], *(_turn(n, text) for n, text in enumerate(FILLERS)), *scenes[1]]
            jobs.append((empty, turns))
            places.append((len(scenes[0]) - 1, len(turns) - 1))
        asked: list[Job[str]] = []
        ends: list[list[Vectors]] = []
        for (_, turns), readings in zip(jobs, read_batch(encoder, jobs), strict=True):
            state = empty
            for turn, reading in zip(turns, readings, strict=True):
                state = state.after(turn, reading)
            ends.append([readings[place].embedding for place in places[len(ends)]])
            asked.append((state, _questions(cases[len(asked)], order)))
        queries = np.stack(embed_batch(encoder, asked))  # (cases, 2, D), in the order of the scenes
        scores = np.einsum("cqd,cfd->cqf", queries, np.asarray(ends))
        gain = np.stack([scores[:, 0, 0] - scores[:, 0, 1], scores[:, 1, 1] - scores[:, 1, 0]], 1)
        gains.append(gain if order == (0, 1) else gain[:, ::-1])
    won: list[float] = np.mean([_won(gain_of) for gain_of in gains], 0).tolist()
    return won


def _questions(case: Case, order: Sequence[int]) -> list[str]:
    return [case.questions[which] for which in order]


def _won(gains: Vectors) -> Bools:
    """Return 1 for what is right, 0 for what is wrong, a half for what makes no difference."""
    flat = np.asarray(gains, np.float64).reshape(-1)
    won: Bools = np.where(np.abs(flat) < 1e-6, 0.5, flat > 0)
    return won


def _scene(case: Case, which: int, between: int) -> list[Turn]:
    texts = [case.openings[which], *FILLERS[:between], case.follow_up]
    return [_turn(number, text) for number, text in enumerate(texts)]


def _turn(number: int, text: str) -> Turn:
    return Turn(user=text, speaker=SPEAKERS[number % 2])


# -------------------------------------------------------------------------------------- recall


def measure(
    encoder: Encoder, conversations: Sequence[Conversation], questions: int, tests: Sequence[str]
) -> dict[str, Any]:
    """Return recall@10, macro, as it is and under each test, and what each test takes away.

    Args:
        encoder: Whose memory is tested.
        conversations: What is read and asked.
        questions: Of each conversation, at most; drawn once.
        tests: Names in `READERS`, or "constant order".
    """
    scored: list[tuple[Conversation, list[Question]]] = []
    for number, conversation in enumerate(conversations):
        asked = [question for question in conversation.questions if question.evidence]
        if asked:
            drawn = sorted(Random(number).sample(range(len(asked)), min(questions, len(asked))))
            scored.append((conversation, [asked[place] for place in drawn]))
    every = [(conversation, question) for conversation, asked in scored for question in asked]
    resampling = Resampling([c.id for c, _ in every], [question.type for _, question in every])
    values: dict[str, list[float]] = {}
    for name in ("as it is", *(test for test in tests if test in READERS)):
        read = READERS[name]
        pairs = []
        for number in track(range(len(scored)), name, transient=True):
            conversation, asked = scored[number]
            other = scored[(number + 1) % len(scored)][0].turns
            pairs.append(read(encoder, conversation.turns, asked, other))
        values[name] = _recalls(scored, pairs)
        order = getattr(encoder, "order", 0)
        if name == "as it is" and order and "constant order" in tests:
            constant = np.concatenate([queries for _, queries in pairs])[:, -order:].mean(0)
            for _, queries in pairs:
                queries[:, -order:] = constant
            values["constant order"] = _recalls(scored, pairs)
    complete = values["as it is"]
    return {
        "questions": len(every),
        "resampled": resampling.unit,
        "recall@10": {n: _numbers(resampling.interval(v, macro=True)) for n, v in values.items()},
        "gain": {
            name: _numbers(resampling.difference(complete, value, macro=True))
            for name, value in values.items()
            if name != "as it is"
        },
    }


def _recalls(
    scored: Sequence[tuple[Conversation, list[Question]]], pairs: Sequence[tuple[Vectors, Vectors]]
) -> list[float]:
    recalls = []
    for (conversation, asked), (turns, queries) in zip(scored, pairs, strict=True):
        for question, query in zip(asked, queries, strict=True):
            place = len(conversation.turns) if question.place is None else question.place
            scores = np.asarray(turns[:place] @ query, np.float64)
            recalls.append(recall(best(scores, K), question.evidence, K))
    return recalls


Reader = Callable[
    [Encoder, Sequence[Turn], Sequence[Question], Sequence[Turn]], tuple[Vectors, Vectors]
]
"""(encoder, turns, questions, another conversation's turns) → their embeddings, (N, D) and (Q, D)."""


def _as_it_is(
    encoder: Encoder, turns: Sequence[Turn], asked: Sequence[Question], _: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    return _in_order(encoder, turns, asked, range(len(turns)))


def _shuffled(
    encoder: Encoder, turns: Sequence[Turn], asked: Sequence[Question], _: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    order = list(range(len(turns)))
    Random(0).shuffle(order)
    return _in_order(encoder, turns, asked, order)


def _in_order(
    encoder: Encoder, turns: Sequence[Turn], asked: Sequence[Question], order: Sequence[int]
) -> tuple[Vectors, Vectors]:
    """Read turns in an order, and each question after as many as are said before it."""
    readings = encoder.read(State.empty(encoder.spec), [turns[place] for place in order])
    vectors: Vectors = np.empty((len(turns), encoder.spec.dim), np.float32)
    for place, reading in zip(order, readings, strict=True):
        vectors[place] = reading.embedding
    moments = [len(turns) if question.place is None else question.place for question in asked]
    wanted = dict.fromkeys(moments)
    rows: dict[int, Vectors] = {}
    state: State[Turn] = State.empty(encoder.spec)
    for moment in range(len(turns) + 1):
        if moment in wanted:
            here = [row for row, other in enumerate(moments) if other == moment]
            embedded = encoder.embed_queries(state, [asked[row].text for row in here])
            rows.update(zip(here, embedded, strict=True))
        if moment < len(turns):
            state = state.after(turns[order[moment]], readings[moment])
    return vectors, np.stack([rows[row] for row in range(len(asked))])


def _off(
    encoder: Encoder, turns: Sequence[Turn], asked: Sequence[Question], _: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    empty: State[Turn] = State.empty(encoder.spec)
    read = read_batch(encoder, [(empty, [turn]) for turn in turns])
    queries = encoder.embed_queries(empty, [question.text for question in asked])
    return np.stack([reading.embedding for [reading] in read]), queries


def _replaced(
    encoder: Encoder, turns: Sequence[Turn], asked: Sequence[Question], other: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    """Read everything after the turns of another conversation, at the same place in it."""
    moments = [len(turns) if question.place is None else question.place for question in asked]
    vectors: list[Vectors] = []
    rows: dict[int, Vectors] = {}
    jobs: list[tuple[State[Turn], list[Turn]]] = []
    for moment, state in enumerate(_states(encoder, other, len(turns) + 1)):
        here = [row for row, time in enumerate(moments) if time == moment]
        if here:
            embedded = encoder.embed_queries(state, [asked[row].text for row in here])
            rows.update(zip(here, embedded, strict=True))
        if moment < len(turns):
            jobs.append((state, [turns[moment]]))
        if len(jobs) == JOBS or moment == len(turns):
            vectors += [reading.embedding for [reading] in read_batch(encoder, jobs)]
            jobs = []
    return np.stack(vectors), np.stack([rows[row] for row in range(len(asked))])


def _states(encoder: Encoder, turns: Sequence[Turn], count: int) -> Iterator[State[Turn]]:
    """Yield the states before the first `count` turns; a shorter conversation is told again."""
    state: State[Turn] = State.empty(encoder.spec)
    told = [turns[place % len(turns)] for place in range(count - 1)]
    yield state
    for turn, reading in zip(told, encoder.read(state, told), strict=True):
        state = state.after(turn, reading)
        yield state


READERS: dict[str, Reader] = {
    "as it is": _as_it_is,
    "memory off": _off,
    "shuffled": _shuffled,
    "replaced": _replaced,
}
TESTS = ("memory off", "shuffled", "replaced", "constant order")


def _numbers(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]


def _table_of_cases(result: dict[str, Any]) -> str:
    head = ["counterfactual antecedents, %", *(f"{n} between" for n in BETWEEN)]
    rows = []
    for name, by_distance in result.items():
        for what, label in (("apart", "right"), ("together", "right, in one memory")):
            cells = [str(Interval(*by_distance[str(n)][what])) for n in BETWEEN]
            rows.append([f"{name}: {label}", *cells])
        cells = [
            "{:.4f} [{:.4f}, {:.4f}]".format(*by_distance[str(n)]["movement"]) for n in BETWEEN
        ]
        rows.append([f"{name}: the cosine moves by", *cells])
    return table(head, rows)


def _table_of_recall(dataset: str, name: str, rows: dict[str, Any]) -> str:
    cells = [
        [
            test,
            str(Interval(*value)),
            str(Interval(*rows["gain"][test])) if test in rows["gain"] else "",
        ]
        for test, value in rows["recall@10"].items()
    ]
    head = [f"{name}, recall@10, macro, %", dataset, "as it is minus this"]
    note = f"{rows['questions']:,} questions, intervals over {rows['resampled']}"
    return f"\n{table(head, cells)}\n{note}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument(
        "--encoder", action="append", metavar="NAME", help="may be repeated; mini if not given"
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N conversations of each")
    parser.add_argument(
        "--questions", type=positive, default=80, metavar="N", help="of each conversation, at most"
    )
    parser.add_argument(
        "--test", nargs="*", choices=TESTS, default=TESTS, help="what is done to the history"
    )
    parser.add_argument(
        "--no-recall",
        dest="recall",
        action="store_false",
        help="only the counterfactual antecedents",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
