"""The service on Ray Serve: each replica is the whole application, with its own encoder.

Ray's proxy sends all requests of a memory to one replica as long as the replicas stay the same: by
consistent hashing of the header `X-Session-Id`, which `evomem.connect` sends. That keeps states warm.
A request that reaches another replica is answered just as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomem._extras import require
from evomem.fleet import cluster
from evomem.service.app import make_app
from evomem.service.guard import Guard
from evomem.service.settings import Settings

NAME = "evomem"
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
RETRY = 1.0  # seconds after which a client that was turned away shall come again


@dataclass(frozen=True, slots=True)
class Size:
    """How many replicas there are, and what each gets."""

    least: int = 1
    most: int = 1
    requests: float = 8.0
    """That a replica works on at a time, on average: with more, another one is added."""
    up: float = 30.0
    """Seconds of more requests than that before a replica is added."""
    down: float = 600.0
    """Seconds of fewer requests before one is taken away."""
    queued: int = 256
    """Requests that wait for a replica, at most; the next ones are turned away."""
    cpus: float = 1.0
    gpus: float | None = None
    """None for one where the cluster has any."""
    fallbacks: int = 0
    """Other replicas that a memory's requests may go to if its own is full. They wait there for the
    memory's lease, so that none is best unless memories are mostly read."""


class Replica:
    """One replica: the application, and whether it can be used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __serve_build_asgi_app__(self) -> Guard:
        """Make the application: Ray calls it, then opens the database through its lifespan."""
        self._guard = make_app(self._settings)
        return self._guard

    async def check_health(self) -> None:
        """Raise if the database cannot be read: Ray calls it again and again."""
        await self._guard.service.check()


def application(settings: Settings, size: Size, gpus: float) -> Any:
    """Return the application for `ray.serve.run`."""
    serve = require("ray.serve", extra="ray")
    config = require("ray.serve.config", extra="ray")
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        max_ongoing_requests=settings.in_flight,
        max_queued_requests=size.queued,
        backpressure_config=config.BackpressureConfig(retry_after_s=RETRY),
        autoscaling_config=config.AutoscalingConfig(
            min_replicas=size.least,
            max_replicas=size.most,
            target_ongoing_requests=size.requests,
            upscale_delay_s=size.up,
            downscale_delay_s=size.down,
        ),
        request_router_config=config.RequestRouterConfig(
            request_router_class=ROUTER,
            request_router_kwargs={"num_fallback_replicas": size.fallbacks},
        ),
        ray_actor_options={"num_cpus": size.cpus, "num_gpus": gpus},
    )
    return deployment.bind(settings)


def run(settings: Settings, size: Size, *, address: str | None = None, wait: bool = True) -> None:
    """Deploy the service, and stay until interrupted unless told not to.

    Args:
        settings: Of each replica; its database is a URL that every machine reaches.
        size: How many replicas.
        address: Of a Ray cluster; None starts Ray on this machine.
        wait: Whether to stay.

    Raises:
        MissingExtra: Ray is not installed.
    """
    ray = cluster.start(address)
    serve = require("ray.serve", extra="ray")
    serve.start(http_options={"host": settings.host, "port": settings.port})
    app = application(settings, size, cluster.gpus(ray, size.gpus))
    serve.run(app, name=NAME, route_prefix="/", blocking=wait)


def build(args: Mapping[str, Any]) -> Any:
    """Return the application for a Serve config file, whose `args` are `Settings`.

    For `import_path: evomem.fleet.serving:build`. The database is `$EVOMEM_DB` if not given. How many
    replicas there are, and what each gets, is in the file's `deployments`, as Ray describes it.
    """
    lists = {name: tuple(args[name]) for name in ("names", "origins") if name in args}
    defaults = {"database": os.environ["EVOMEM_DB"]} if "EVOMEM_DB" in os.environ else {}
    given: dict[str, Any] = {"lease": cluster.LEASE, **defaults, **args, **lists}
    return application(Settings(**given), Size(), 0.0)
