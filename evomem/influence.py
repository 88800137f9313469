"""Influence: the later turns and answers that a turn has influenced, computed from the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evomem.engine import Engine
from evomem.records import Record
from evomem.state import Spec
from evomem.store import Namespace, Trace, View


@dataclass(frozen=True, slots=True)
class Influence:
    """The ids of the turns that one turn has influenced, in log order, including deleted ones.

    `direct` and `indirect` are upper bounds: the log does not record how strongly the encoder used
    what it could see. Both are empty for an encoder without memory.
    """

    memory: Namespace
    id: str
    """The turn."""
    direct: tuple[str, ...]
    """Turns that were read while the turn's latents were in the queue, or its text in the open
    chunk."""
    indirect: tuple[str, ...]
    """All turns after those: they were read with latents that the turn may have influenced."""
    answers: tuple[str, ...]
    """Turns that recalled it (`Turn.recalled`), directly or through other turns."""
    forks: tuple[Influence, ...] = ()
    """The influence in every fork that has the turn; shared turns are listed again."""

    def to_json(self) -> dict[str, Any]:
        """Return the influence as plain JSON values."""
        return {
            "memory": list(self.memory),
            "id": self.id,
            "direct": list(self.direct),
            "indirect": list(self.indirect),
            "answers": list(self.answers),
            "forks": [fork.to_json() for fork in self.forks],
        }


def find_influence(
    engine: Engine, namespace: Namespace, view: View, id: str, *, forks: bool
) -> Influence | None:
    """Return the influence of the turn `id`; None if the view neither has nor names it.

    Args:
        engine: The memory's engine.
        namespace: The memory.
        view: Its view.
        id: The turn. For a purged turn, only the answers that name it are known.
        forks: Whether to include the memory's forks.
    """
    record = engine.store.find(view, [id]).get(id)
    traces = engine.store.traces(view, after=record.seq - 1 if record else 0)
    answers = _answers(traces, id)
    if record is None:
        return Influence(namespace, id, (), (), answers) if answers else None
    direct, indirect = _reached(traces, engine.store.spec)
    below = _copies(engine, namespace, record) if forks else ()
    return Influence(
        namespace,
        id,
        direct,
        indirect,
        answers,
        tuple(
            own
            for name, copy in below
            if (own := find_influence(engine, name, copy, id, forks=False))
        ),
    )


def _reached(traces: Sequence[Trace], spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the turns that the first turn influences directly and indirectly.

    A turn's embedding depends on the queue before the turn; its latents depend on the older queue
    before its chunk, and on the chunk's texts.
    """
    if not spec.latents:
        return (), ()
    turns = -(-spec.capacity // spec.latents)  # turns with latents in a full queue
    place = {trace.seq: number for number, trace in enumerate(traces)}
    direct: list[str] = []
    indirect: list[str] = []
    for trace in traces[1:]:
        near = place.get(trace.chunk, 0) <= turns  # 0: the chunk began before the first turn
        (direct if near else indirect).append(trace.id)
    return tuple(direct), tuple(indirect)


def _answers(traces: Iterable[Trace], id: str) -> tuple[str, ...]:
    naming: defaultdict[str, list[str]] = defaultdict(list)
    order: dict[str, int] = {}
    for trace in traces:
        order[trace.id] = trace.seq
        for recalled in trace.recalled:
            naming[recalled].append(trace.id)
    answers: set[str] = set()
    open_ = [id]
    while open_:
        new = [other for other in naming[open_.pop()] if other not in answers]
        answers.update(new)
        open_ += new
    return tuple(sorted(answers - {id}, key=order.__getitem__))


def _copies(
    engine: Engine, namespace: Namespace, record: Record
) -> Iterable[tuple[Namespace, View]]:
    """Yield the forks that have the turn, or a copy of it after a purge, and their views."""
    for name in engine.store.memories(namespace):
        number = None if name == namespace else engine.store.find_memory(name)
        if number is None:
            continue
        view = engine.store.view(number)
        copy = engine.store.find(view, [record.id]).get(record.id)
        if copy and (copy.turn.content, copy.added) == (record.turn.content, record.added):
            yield name, view
