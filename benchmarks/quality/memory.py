"""Does an encoder use its memory? What it loses with a different history, or none.

    python -m benchmarks memory --encoder mini --data realtalk beam realmem

Counterfactual antecedents: "It should get here on Thursday." refers to the telescope in one memory and to
the sewing machine in another. "When does the telescope arrive?" has to be nearer to the first.
Recall: the same questions, with every turn and question read after the turns that precede it, after no
turns, after all turns in a random order, and after the turns of another conversation; and with a constant
in place of the dimensions of each question's embedding that encode order. The value of the memory is the
difference from these, with an interval.
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
from benchmarks.systems.encoders import Encoders, ReadHistory
from evomem import Encoder, Turn
from evomem.batching import embed_batch, read_batch
from evomem.encoder import Job
from evomem.errors import EvomemError
from evomem.state import State, Vectors

K = 10
BETWEEN = (0, 2)
"""The numbers of turns about something else between an opening and its follow-up."""
FILLERS = (
    "Good morning, by the way.",
    "Wait, somebody is at the door.",
    "Sorry, back again.",
    "The rain has stopped here.",
    "I made some tea.",
)
SPEAKERS = ("Ines", "Joel")
BATCH = 32  # turns with separate histories that are read in one call
Correct = npt.NDArray[np.float64]
"""1 for a correct case, 0 for an incorrect one, 0.5 for a tie."""


def main(argv: Sequence[str]) -> int:
    """Run the tests; return 0, or 2 after an error message."""
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
    """Return, for each distance, the share of correct cases and the change of the cosine.

    `apart`: the follow-up is in two memories that differ only in the opening; the question is embedded
    with an empty memory. `together`: both openings, each with its follow-up, are in one memory, in either
    order; the question is embedded after all of them.
    """
    result: dict[str, Any] = {}
    for between in BETWEEN:
        correct, changes = _apart(encoder, cases, between)
        resampling = Resampling(
            [str(n) for n in range(len(cases)) for _ in (0, 1)], [""] * len(correct)
        )
        result[str(between)] = {
            "apart": _numbers(resampling.interval(correct)),
            "movement": _numbers(resampling.interval(changes)),
            "together": _numbers(resampling.interval(_together(encoder, cases, between))),
        }
    return result


def _apart(
    encoder: Encoder, cases: Sequence[Case], between: int
) -> tuple[list[float], list[float]]:
    empty: State[Turn] = State.empty(encoder.spec)
    jobs = [(empty, _scene(case, which, between)) for case in cases for which in (0, 1)]
    scenes = read_batch(encoder, jobs)
    turns = np.stack([readings[-1].embedding for readings in scenes]).reshape(len(cases), 2, -1)
    texts = [question for case in cases for question in case.questions]
    queries = encoder.embed_queries(empty, texts).reshape(len(cases), 2, -1)
    scores = np.einsum("cqd,cfd->cqf", queries, turns)  # case, question, follow-up
    gains = np.stack([scores[:, 0, 0] - scores[:, 0, 1], scores[:, 1, 1] - scores[:, 1, 0]], 1)
    return _correct(gains).tolist(), gains.reshape(-1).tolist()


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
        query_jobs: list[Job[str]] = []
        follow_ups: list[list[Vectors]] = []
        for (_, turns), readings in zip(jobs, read_batch(encoder, jobs), strict=True):
            state = empty
            for turn, reading in zip(turns, readings, strict=True):
                state = state.after(turn, reading)
            follow_ups.append([readings[place].embedding for place in places[len(follow_ups)]])
            query_jobs.append((state, _questions(cases[len(query_jobs)], order)))
        queries = np.stack(embed_batch(encoder, query_jobs))  # (cases, 2, D), in scene order
        scores = np.einsum("cqd,cfd->cqf", queries, np.asarray(follow_ups))
        gain = np.stack([scores[:, 0, 0] - scores[:, 0, 1], scores[:, 1, 1] - scores[:, 1, 0]], 1)
        gains.append(gain if order == (0, 1) else gain[:, ::-1])
    shares: list[float] = np.mean([_correct(gain) for gain in gains], 0).tolist()
    return shares


def _questions(case: Case, order: Sequence[int]) -> list[str]:
    return [case.questions[which] for which in order]


def _correct(gains: Vectors) -> Correct:
    """Return 1 for a positive gain, 0 for a negative one, and 0.5 for no difference."""
    flat = np.asarray(gains, np.float64).reshape(-1)
    correct: Correct = np.where(np.abs(flat) < 1e-6, 0.5, flat > 0)
    return correct


def _scene(case: Case, which: int, between: int) -> list[Turn]:
    texts = [case.openings[which], *FILLERS[:between], case.follow_up]
    return [_turn(number, text) for number, text in enumerate(texts)]


def _turn(number: int, text: str) -> Turn:
    return Turn(user=text, speaker=SPEAKERS[number % 2])


# -------------------------------------------------------------------------------------- recall


def measure(
    encoder: Encoder,
    conversations: Sequence[Conversation],
    questions: int,
    tests: Sequence[str],
    k: int = K,
) -> dict[str, Any]:
    """Return macro recall@k without a change and under each test, and what each test loses.

    Args:
        encoder: The encoder to test.
        conversations: The conversations to read.
        questions: The maximum number of questions per conversation, sampled once.
        tests: Names in `READERS`, or "constant order".
        k: The number of turns that a search returns.
    """
    scored: list[tuple[Conversation, list[Question]]] = []
    for number, conversation in enumerate(conversations):
        answerable = [question for question in conversation.questions if question.evidence]
        if answerable:
            count = min(questions, len(answerable))
            sample = sorted(Random(number).sample(range(len(answerable)), count))
            scored.append((conversation, [answerable[place] for place in sample]))
    flat = [(conversation, question) for conversation, sampled in scored for question in sampled]
    resampling = Resampling([c.id for c, _ in flat], [question.type for _, question in flat])
    values: dict[str, list[float]] = {}
    for name in ("as it is", *(test for test in tests if test in READERS)):
        read = READERS[name]
        pairs = []
        for number in track(range(len(scored)), name, transient=True):
            conversation, sampled = scored[number]
            other = scored[(number + 1) % len(scored)][0].turns
            pairs.append(read(encoder, conversation.turns, sampled, other))
        values[name] = _recalls(scored, pairs, k)
        order = getattr(encoder, "order", 0)
        if name == "as it is" and order and "constant order" in tests:
            constant = np.concatenate([queries for _, queries in pairs])[:, -order:].mean(0)
            for _, queries in pairs:
                queries[:, -order:] = constant
            values["constant order"] = _recalls(scored, pairs, k)
    unchanged = values["as it is"]
    return {
        "questions": len(flat),
        "resampled": resampling.unit,
        f"recall@{k}": {n: _numbers(resampling.interval(v, macro=True)) for n, v in values.items()},
        "gain": {
            name: _numbers(resampling.difference(unchanged, value, macro=True))
            for name, value in values.items()
            if name != "as it is"
        },
    }


def _recalls(
    scored: Sequence[tuple[Conversation, list[Question]]],
    pairs: Sequence[tuple[Vectors, Vectors]],
    k: int,
) -> list[float]:
    recalls = []
    for (conversation, questions), (turns, queries) in zip(scored, pairs, strict=True):
        for question, query in zip(questions, queries, strict=True):
            place = len(conversation.turns) if question.place is None else question.place
            scores = np.asarray(turns[:place] @ query, np.float64)
            recalls.append(recall(best(scores, k), question.evidence, k))
    return recalls


Reader = Callable[
    [Encoder, Sequence[Turn], Sequence[Question], Sequence[Turn]], tuple[Vectors, Vectors]
]
"""(encoder, turns, questions, another conversation's turns) → their embeddings, (N, D) and (Q, D)."""


def _as_it_is(
    encoder: Encoder, turns: Sequence[Turn], questions: Sequence[Question], _: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    return _in_order(encoder, turns, questions, range(len(turns)))


def _shuffled(
    encoder: Encoder, turns: Sequence[Turn], questions: Sequence[Question], _: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    order = list(range(len(turns)))
    Random(0).shuffle(order)
    return _in_order(encoder, turns, questions, order)


def _in_order(
    encoder: Encoder, turns: Sequence[Turn], questions: Sequence[Question], order: Sequence[int]
) -> tuple[Vectors, Vectors]:
    """Read turns in `order`, and embed each question after the number of turns that precede it."""
    history = ReadHistory(encoder, [turns[place] for place in order])
    vectors: Vectors = np.empty_like(history.vectors)
    vectors[list(order)] = history.vectors
    queries = [encoder.embed_queries(history.state(q.place), [q.text])[0] for q in questions]
    return vectors, np.stack(queries)


def _off(
    encoder: Encoder, turns: Sequence[Turn], questions: Sequence[Question], _: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    empty: State[Turn] = State.empty(encoder.spec)
    readings = read_batch(encoder, [(empty, [turn]) for turn in turns])
    queries = encoder.embed_queries(empty, [question.text for question in questions])
    return np.stack([reading.embedding for [reading] in readings]), queries


def _replaced(
    encoder: Encoder, turns: Sequence[Turn], questions: Sequence[Question], other: Sequence[Turn]
) -> tuple[Vectors, Vectors]:
    """Read each turn and question after as many turns of another conversation as precede it."""
    moments = [len(turns) if question.place is None else question.place for question in questions]
    vectors: list[Vectors] = []
    rows: dict[int, Vectors] = {}
    jobs: list[tuple[State[Turn], list[Turn]]] = []
    for moment, state in enumerate(_states(encoder, other, len(turns) + 1)):
        due = [row for row, time in enumerate(moments) if time == moment]
        if due:
            embedded = encoder.embed_queries(state, [questions[row].text for row in due])
            rows.update(zip(due, embedded, strict=True))
        if moment < len(turns):
            jobs.append((state, [turns[moment]]))
        if len(jobs) == BATCH or moment == len(turns):
            vectors += [reading.embedding for [reading] in read_batch(encoder, jobs)]
            jobs = []
    return np.stack(vectors), np.stack([rows[row] for row in range(len(questions))])


def _states(encoder: Encoder, turns: Sequence[Turn], count: int) -> Iterator[State[Turn]]:
    """Yield the states before the first `count` turns; a shorter conversation is repeated."""
    state: State[Turn] = State.empty(encoder.spec)
    repeated = [turns[place % len(turns)] for place in range(count - 1)]
    yield state
    for turn, reading in zip(repeated, encoder.read(state, repeated), strict=True):
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
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N conversations"
    )
    parser.add_argument(
        "--questions",
        type=positive,
        default=80,
        metavar="N",
        help="maximum questions per conversation",
    )
    parser.add_argument(
        "--test", nargs="*", choices=TESTS, default=TESTS, help="changes to the history to test"
    )
    parser.add_argument(
        "--no-recall",
        dest="recall",
        action="store_false",
        help="only the counterfactual antecedents",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
