"""`Pool`: actors that run jobs, each on the next free actor."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from evomem.errors import StoreError
from evomem.fleet import cluster

MAX_CALLS, PAUSE = 12, 5.0
"""Calls of an actor that Ray cannot reach, and seconds between them: Ray takes a while to notice that
a machine was lost, and does not retry these calls itself."""
ATTEMPTS = 3  # per job, if its database is busy or briefly unreachable, or its worker dies


class Pool:
    """Ray actors of one class, whose method `run` runs a job.

    Ray restarts actors that die, and retries calls that died with their actor or raised `StoreError`:
    jobs must be idempotent.
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
        """Create the actors.

        Args:
            kind: The actors' class.
            arguments: The arguments of its constructor.
            workers: The number of actors.
            gpus: GPUs per actor; None for one if the cluster has GPUs.
            address: The address of a Ray cluster; None starts Ray on this machine.

        Raises:
            MissingExtra: Ray is not installed.
        """
        ray = self._ray = cluster.start(address)
        actor = ray.remote(
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
            num_cpus=1,
            num_gpus=cluster.gpus(ray, gpus),
        )(kind)
        self._actors = [actor.remote(*arguments) for _ in range(workers)]

    def __enter__(self) -> Pool:
        """Wait until all actors have started. Raises `StoreError` if one does not start."""
        try:
            self._ray.get([actor.__ray_ready__.remote() for actor in self._actors])
        except self._ray.exceptions.RayError as error:
            self.__exit__()
            reason = str(error).strip().splitlines()[-1]
            raise StoreError(f"a worker does not start ({reason}): see Ray's log") from error
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def run(self, jobs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Run jobs by name; yield each name with its result, or an error, when it finishes.

        Ray's own `ActorPool` does not tell which job an error belongs to.
        """
        waiting, free = deque(jobs.items()), deque(self._actors)
        running: dict[Any, tuple[str, Any]] = {}
        failures: Counter[str] = Counter()
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
                failures[name] += 1
                if failures[name] < MAX_CALLS:
                    time.sleep(PAUSE)
                    waiting.append((name, jobs[name]))
                    continue
                result = error
            except self._ray.exceptions.RayError as error:
                result = error
            yield name, result


def failure_text(error: Exception) -> str:
    """Return the reason of a job's failure in one line."""
    cause = getattr(error, "cause", None)  # set if the job itself raised the error
    if cause is None:
        return f"its worker died: {error}".partition("\n")[0]
    return f"{type(cause).__name__}: {cause}"
