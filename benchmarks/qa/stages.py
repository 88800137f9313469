"""The stages. Each writes its results to a log by question, and only does what the log lacks."""

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
class RunSettings:
    """Settings of a run that do not affect its results."""

    folder: Path
    parallel: int
    """The number of questions that are read or judged concurrently."""
    workers: int
    """The number of histories that are ingested concurrently."""
    progress: Progress
    pool: Pool | None = None
    """The workers that ingest histories; None for threads of this process."""


@dataclass(frozen=True, slots=True)
class Task:
    """The questions of one dataset, answered with one system."""

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


class Retriever:
    """Reads histories, and ranks their turns for every question."""

    def __init__(self, system: str, encoders: Encoders, dates: bool) -> None:
        self.system, self._dates = system_named(system, encoders), dates

    def run(self, conversation: Conversation) -> dict[str, dict[str, Any]]:
        """Return the hits and costs of each question, by its id."""
        turns = (with_dates(conversation) if self._dates else conversation).turns
        start = time.perf_counter()
        rank = self.system.index(turns)
        read_s = time.perf_counter() - start
        tokens = sum(count_tokens(turn.text) for turn in turns)
        results = {}
        for number, question in enumerate(conversation.questions):
            query = f"[{question.asked}] " * bool(self._dates and question.asked) + question.text
            start = time.perf_counter()
            hits = list(rank(query, len(conversation.turns)))
            results[question.id] = {
                "hits": hits,
                "retrieve_s": round(time.perf_counter() - start, 4),
                "retrieve_tokens": count_tokens(query),
                # The cost of ingestion is counted once, with a history's first question.
                "ingest_s": 0 if number else round(read_s, 4),
                "ingest_tokens": 0 if number else tokens,
            }
        return results


class RemoteRetriever(Retriever):
    """A `Retriever` for a separate process."""

    def __init__(self, system: str, device: str | None, dates: bool) -> None:
        super().__init__(system, Encoders(device), dates)


def retrieve(task: Task, encoders: Encoders, settings: RunSettings) -> Log:
    """Let the system read every history and rank its turns for every question.

    A history is read again if an interrupted run has not finished all of its questions.
    """
    local = threading.local()  # a system holds the history that it has read, so each thread has one

    def retriever() -> Retriever:
        if not hasattr(local, "retriever"):
            local.retriever = Retriever(task.system, encoders.apart(), task.dates)
        result: Retriever = local.retriever
        return result

    log = Log(
        settings.folder,
        f"retrieve-{task.system}",
        {**_header(task), "of": retriever().system.fingerprint},
    )

    def keep(results: dict[str, dict[str, Any]]) -> None:
        for id, result in results.items():
            log.add(id, result)

    todo = [
        conversation
        for conversation in sorted(
            task.dataset.conversations, key=lambda c: [t.text for t in c.turns]
        )
        if any(question.id not in log for question in conversation.questions)
    ]
    what = "ingest, retrieve"
    if settings.pool is None:
        _for_each(
            lambda talk: keep(retriever().run(talk)),
            todo,
            settings.workers,
            what,
            settings.progress,
        )
        return log
    bar = settings.progress.add_task(what, total=len(todo))
    for _, results in results_of(retriever(), settings.pool, {talk.id: talk for talk in todo}):
        keep(results)
        settings.progress.advance(bar)
    return log


def read(
    task: Task, retrieved: Log, context: Context, reader: Endpoint, settings: RunSettings
) -> Log:
    """Let the reader answer every question from the hits."""
    log = Log(
        settings.folder,
        f"read-{task.system}-{context.name}",
        {**_source(retrieved), "context": context.name, **_model(reader)},
    )

    def answer(pair: tuple[Conversation, Question]) -> None:
        conversation, question = pair
        text = context.text(conversation, retrieved.results[question.id]["hits"])
        reply = reader.ask(prompts.reading(question, text))
        log.add(
            question.id,
            {"answer": reply.text, "context_tokens": count_tokens(text), **_tokens(reply)},
        )

    todo = _todo(task, log, retrieved)
    _for_each(answer, todo, settings.parallel, f"read {context.name}", settings.progress)
    return log


def judge(
    task: Task, answers: Log, context: Context, judge: Endpoint, settings: RunSettings
) -> Log:
    """Let the judge decide whether every answer is right."""
    log = Log(
        settings.folder,
        f"judge-{task.system}-{context.name}",
        {**_source(answers), **_model(judge)},
    )

    def decide(pair: tuple[Conversation, Question]) -> None:
        question = pair[1]
        reply = judge.ask(prompts.judging(question, answers.results[question.id]["answer"]))
        log.add(question.id, {"right": verdict(reply.text), "said": reply.text, **_tokens(reply)})

    todo = [pair for pair in _todo(task, log, answers) if not pair[1].choices]
    _for_each(decide, todo, settings.parallel, f"judge {context.name}", settings.progress)
    return log


def _todo(task: Task, log: Log, before: Log) -> list[tuple[Conversation, Question]]:
    """Return the questions with a known answer that the previous stage has finished and this one has not."""
    return [
        (conversation, question)
        for conversation, question in task.questions
        if question.id in before
        and question.id not in log
        and (question.answer or question.unanswerable)
    ]


def _for_each(
    work: Callable[[T], None], items: Sequence[T], threads: int, what: str, progress: Progress
) -> None:
    """Call `work` for every item; an item whose endpoint fails is left for the next run."""
    if not items:
        return
    bar = progress.add_task(what, total=len(items))
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
                progress.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        progress.console.print(
            f"{what}: {len(failures)} of {len(items)} failed and are left for the next run; "
            f"the first: {failures[0]}",
            markup=False,
        )


def _header(task: Task) -> dict[str, Any]:
    return {
        "stages": 1,  # the version of the format; increase it when the meaning of a line changes
        "dataset": task.dataset.name,
        "sha256": task.dataset.sha256,
        "system": task.system,
        "dates": task.dates,
    }


def _source(log: Log) -> dict[str, Any]:
    return {"from": log.name}


def _model(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "max_tokens": endpoint.max_tokens,
        "prompts": prompts.VERSION,
    }


def _tokens(reply: Any) -> dict[str, int]:
    return {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
