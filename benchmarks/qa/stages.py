"""The stages. Each keeps its results in a log by question, and does only what the log lacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress

from benchmarks.datasets import Conversation, Dataset, Question, with_dates
from benchmarks.qa import prompts
from benchmarks.qa.answers import verdict
from benchmarks.qa.contexts import Context, count_tokens
from benchmarks.qa.endpoint import Endpoint, EndpointError
from benchmarks.reporting.log import Log
from benchmarks.spreading import results_of
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import system_named
from evomem.fleet.pool import Pool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class How:
    """How a run is done; nothing here changes a result."""

    folder: Path
    parallel: int
    """Questions that are read or judged at the same time."""
    workers: int
    """Histories that are ingested at the same time."""
    progress: Progress
    pool: Pool | None = None
    """Where histories are ingested; None for threads of this process."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One dataset asked of one system."""

    dataset: Dataset
    system: str
    dates: bool

    @property
    def questions(self) -> list[tuple[Conversation, Question]]:
        """Every question with its conversation."""
        return [
            (conversation, q)
            for conversation in self.dataset.conversations
            for q in conversation.questions
        ]


class Asker:
    """Reads histories, and ranks their turns for every question."""

    def __init__(self, system: str, encoders: Encoders, dates: bool) -> None:
        self.system, self._dates = system_named(system, encoders), dates

    def run(self, conversation: Conversation) -> dict[str, dict[str, Any]]:
        """Return what was found for each question, by its id."""
        shown = with_dates(conversation) if self._dates else conversation
        start = time.perf_counter()
        rank = self.system.index(shown.turns)
        read_s = time.perf_counter() - start
        tokens = sum(count_tokens(turn.text) for turn in shown.turns)
        results = {}
        for number, question in enumerate(conversation.questions):
            query = f"[{question.asked}] " * bool(self._dates and question.asked) + question.text
            start = time.perf_counter()
            hits = list(rank(query, len(conversation.turns)))
            results[question.id] = {
                "hits": hits,
                "retrieve_s": round(time.perf_counter() - start, 4),
                "retrieve_tokens": count_tokens(query),
                # ingesting is counted once, with a history's first question
                "ingest_s": 0 if number else round(read_s, 4),
                "ingest_tokens": 0 if number else tokens,
            }
        return results


class RemoteAsker(Asker):
    """One in a process of its own."""

    def __init__(self, system: str, device: str | None, dates: bool) -> None:
        super().__init__(system, Encoders(device), dates)


def retrieve(asked: Asked, encoders: Encoders, how: How) -> Log:
    """Let the system read every history and rank its turns for every question.

    A history is read again if a run was killed before all of its questions were asked.
    """
    local = threading.local()  # systems hold the history that they have read: one for each thread

    def asker() -> Asker:
        if not hasattr(local, "asker"):
            local.asker = Asker(asked.system, encoders.apart(), asked.dates)
        made: Asker = local.asker
        return made

    log = Log(
        how.folder,
        f"retrieve-{asked.system}",
        {**_header(asked), "of": asker().system.fingerprint},
    )

    def keep(results: dict[str, dict[str, Any]]) -> None:
        for id, result in results.items():
            log.add(id, result)

    todo = [
        conversation
        for conversation in sorted(
            asked.dataset.conversations, key=lambda c: [t.text for t in c.turns]
        )
        if any(question.id not in log for question in conversation.questions)
    ]
    what = "ingest, retrieve"
    if how.pool is None:
        _each(lambda talk: keep(asker().run(talk)), todo, how.workers, what, how.progress)
        return log
    task = how.progress.add_task(what, total=len(todo))
    for _, results in results_of(asker(), how.pool, {talk.id: talk for talk in todo}):
        keep(results)
        how.progress.advance(task)
    return log


def read(asked: Asked, retrieved: Log, context: Context, reader: Endpoint, how: How) -> Log:
    """Let the reader answer every question from the hits."""
    log = Log(
        how.folder,
        f"read-{asked.system}-{context.name}",
        {**_belongs(retrieved), "context": context.name, **_model(reader)},
    )

    def answer(pair: tuple[Conversation, Question]) -> None:
        conversation, question = pair
        text = context.text(conversation, retrieved.results[question.id]["hits"])
        reply = reader.ask(prompts.reading(question, text))
        log.add(
            question.id,
            {"answer": reply.text, "context_tokens": count_tokens(text), **_price(reply)},
        )

    _each(answer, _todo(asked, log, retrieved), how.parallel, f"read {context.name}", how.progress)
    return log


def judge(asked: Asked, answers: Log, context: Context, judge: Endpoint, how: How) -> Log:
    """Let the judge say of every answer whether it is right."""
    log = Log(
        how.folder,
        f"judge-{asked.system}-{context.name}",
        {**_belongs(answers), **_model(judge)},
    )

    def decide(pair: tuple[Conversation, Question]) -> None:
        question = pair[1]
        reply = judge.ask(prompts.judging(question, answers.results[question.id]["answer"]))
        log.add(question.id, {"right": verdict(reply.text), "said": reply.text, **_price(reply)})

    todo = [pair for pair in _todo(asked, log, answers) if not pair[1].choices]
    _each(decide, todo, how.parallel, f"judge {context.name}", how.progress)
    return log


def _todo(asked: Asked, log: Log, before: Log) -> list[tuple[Conversation, Question]]:
    """Return what the stage before has done and this one has not, and what has a right answer."""
    return [
        (conversation, question)
        for conversation, question in asked.questions
        if question.id in before
        and question.id not in log
        and (question.answer or question.unanswerable)
    ]


def _each(
    work: Callable[[T], None], items: Sequence[T], threads: int, what: str, progress: Progress
) -> None:
    """Do `work` for every item; a question that an endpoint fails on is left for the next run."""
    if not items:
        return
    task = progress.add_task(what, total=len(items))
    failures: list[EndpointError] = []
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, EndpointError):
                    failures.append(error)
                elif error:
                    raise error
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        progress.console.print(
            f"{what}: {len(failures)} of {len(items)} failed and are left for the next run; "
            f"the first: {failures[0]}",
            markup=False,
        )


def _header(asked: Asked) -> dict[str, Any]:
    return {
        "stages": 1,  # grows when a change of code changes what a line means
        "dataset": asked.dataset.name,
        "sha256": asked.dataset.sha256,
        "system": asked.system,
        "dates": asked.dates,
    }


def _belongs(log: Log) -> dict[str, Any]:
    return {"from": log.name}


def _model(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "max_tokens": endpoint.max_tokens,
        "prompts": prompts.VERSION,
    }


def _price(reply: Any) -> dict[str, int]:
    return {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
