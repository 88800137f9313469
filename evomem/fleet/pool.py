"""`Pool`: actors that do jobs, each job on whichever actor is free."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from evomem.errors import StoreError
from evomem.fleet import cluster

CALLS, PAUSE = 12, 5.0
"""How often an actor is called that Ray cannot reach, and seconds in between: Ray takes a while to
notice that a machine was lost, and does not make these calls again by itself."""
TRIES = 3  # of a job whose database is busy or away for a moment, or whose worker dies


class Pool:
    """Ray actors of one class, which has a method `run` that does a job.

    Ray restarts actors that die, and makes a call again that died with its actor or raised
    `StoreError`: a job must be one that can be done twice.
    """

    def __init__(
        self,
        kind: type,
        arguments: tuple[Any, ...],
        *,
        workers: int,
        gpus: float | None = None,
        address: str | None = None,
    ) -> None:
        """Make the actors.

        Args:
            kind: Their class.
            arguments: What it is made with.
            workers: How many there are.
            gpus: That each gets; None for one where the cluster has any.
            address: Of a Ray cluster; None starts Ray on this machine.

        Raises:
            MissingExtra: Ray is not installed.
        """
        ray = self._ray = cluster.start(address)
        actor = ray.remote(
            max_restarts=-1,
            max_task_retries=TRIES - 1,
            num_cpus=1,
            num_gpus=cluster.gpus(ray, gpus),
        )(kind)
        self._actors = [actor.remote(*arguments) for _ in range(workers)]

    def __enter__(self) -> Pool:
        """Wait until all actors are there. Raises `StoreError` if one does not start."""
        try:
            self._ray.get([actor.__ray_ready__.remote() for actor in self._actors])
        except self._ray.exceptions.RayError as error:
            self.__exit__()
            says = str(error).strip().splitlines()[-1]
            raise StoreError(f"a worker does not start ({says}): see Ray's log") from error
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def run(self, jobs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Do jobs, given by their names; yield each name with its result, or an error, when it is done.

        Ray's own `ActorPool` does not tell which job an error belongs to.
        """
        waiting, free = deque(jobs.items()), deque(self._actors)
        running: dict[Any, tuple[str, Any]] = {}
        missed: Counter[str] = Counter()
        while waiting or running:
            while waiting and free:
                (name, job), actor = waiting.popleft(), free.popleft()
                call = actor.run.options(retry_exceptions=[StoreError])
                running[call.remote(job)] = name, actor
            [done], _ = self._ray.wait(list(running))
            name, actor = running.pop(done)
            free.append(actor)
            result: Any
            try:
                result = self._ray.get(done)
            except self._ray.exceptions.ActorUnavailableError as error:
                missed[name] += 1
                if missed[name] < CALLS:
                    time.sleep(PAUSE)
                    waiting.append((name, jobs[name]))
                    continue
                result = error
            except self._ray.exceptions.RayError as error:
                result = error
            yield name, result


def said_by(error: Exception) -> str:
    """Return in one line why a job failed."""
    cause = getattr(error, "cause", None)  # of an error that was raised by the job itself
    if cause is None:
        return f"its worker died: {error}".partition("\n")[0]
    return f"{type(cause).__name__}: {cause}"
