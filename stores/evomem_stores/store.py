"""`SqlStore`: an `evomem.store.Store`, log and upkeep, on SQLite or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from evomem.state import Spec
from evomem_stores.database.connections import Connections
from evomem_stores.log.leases import Leases
from evomem_stores.log.store import SqlLog
from evomem_stores.upkeep import generations
from evomem_stores.upkeep.operations import Upkeep


class SqlStore(SqlLog, Upkeep):
    """A `Store` on one SQL database. Safe to use from many threads and processes."""

    def __init__(
        self,
        connections: Connections,
        spec: Spec,
        index_folder: Path | None,
        leases: Leases | None = None,
    ) -> None:
        super().__init__(connections, spec, index_folder, leases)
        connections.guard = generations.guard(spec, connections.seals.key_id)
