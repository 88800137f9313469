"""The service on Ray Serve: each replica is the complete application, with its own encoder.

Ray's proxy sends all requests of a memory to one replica while the set of replicas does not change, by
consistent hashing of the header `X-Session-Id`, which `evomem.connect` sends. This keeps states cached.
Other replicas can answer the requests as well.
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
RETRY = 1.0  # seconds after which a rejected client should retry


@dataclass(frozen=True, slots=True)
class Size:
    """The number of replicas, and the resources of each."""

    least: int = 1
    most: int = 1
    requests: float = 8.0
    """The target average of concurrent requests per replica: with more, a replica is added."""
    up: float = 30.0
    """Seconds above the target before a replica is added."""
    down: float = 600.0
    """Seconds below the target before a replica is removed."""
    queued: int = 256
    """The most requests that wait for a replica; further ones are rejected."""
    cpus: float = 1.0
    gpus: float | None = None
    """GPUs per replica; None for one if the cluster has GPUs."""
    fallbacks: int = 0
    """The number of other replicas that a memory's requests may use if its own is full. Writes wait
    there for the memory's lease, so 0 is best unless memories are mostly read."""


class Replica:
    """One replica: the application and its health check."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __serve_build_asgi_app__(self) -> Guard:
        """Create the application. Called by Ray, which then opens the database through its lifespan."""
        self._guard = make_app(self._settings)
        return self._guard

    async def check_health(self) -> None:
        """Raise if the database cannot be read. Called periodically by Ray."""
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
    """Deploy the service and, if `wait`, block until interrupted.

    Args:
        settings: The settings of each replica; the database is a URL that every machine can reach.
        size: The number and resources of replicas.
        address: The address of a Ray cluster; None starts Ray on this machine.
        wait: Whether to block.

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

    For `import_path: evomem.fleet.serving:build`. The default database is `$EVOMEM_DB`. The number of
    replicas and their resources are in the file's `deployments` (see Ray's documentation).
    """
    lists = {name: tuple(args[name]) for name in ("names", "origins") if name in args}
    defaults = {"database": os.environ["EVOMEM_DB"]} if "EVOMEM_DB" in os.environ else {}
    values: dict[str, Any] = {"lease": cluster.LEASE, **defaults, **args, **lists}
    return application(Settings(**values), Size(), 0.0)
