"""The Ray cluster."""

from __future__ import annotations

from typing import Any

from evomem._extras import require

LEASE = 10.0
"""Default seconds for which a worker's lease of a memory lasts after its last write."""


def start(address: str | None) -> Any:
    """Connect to the cluster at `address`, or start Ray on this machine; return the module `ray`.

    Raises:
        MissingExtra: Ray is not installed.
    """
    ray = require("ray", extra="ray")
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    return ray


def gpus(ray: Any, wanted: float | None) -> float:
    """Return the number of GPUs per worker: `wanted`, or one if the cluster has GPUs."""
    if wanted is not None:
        return wanted
    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
