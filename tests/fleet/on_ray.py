"""A process that does all that `evomem fleet` does with the real Ray; it prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import ray

import evomem
from evomem.errors import StoreError
from evomem.fleet import bulk, serving
from evomem.service.settings import Settings
from tests.fleet.workers import MEMORIES, TURNS, text
from tests.stores.helpers import turn


def rows(location: str, query: str) -> list[Any]:
    url, _, schema = location.rpartition("schema=")
    with psycopg.connect(url.rstrip("?&"), options=f"-csearch_path={schema}") as server:
        return server.execute(query).fetchall()


def imports(location: str) -> dict[str, Any]:
    """Import two sound files and one that is none."""
    with tempfile.TemporaryDirectory() as folder:
        histories = {}
        for name in ("ann", "bob", "poisoned"):
            path = Path(folder, f"{name}.json")
            path.write_text(json.dumps([{"role": "user", "content": f"I am {name}."}]))
            histories[str(path)] = ("imported", name)
        path.write_text("{")
        outcomes = bulk.import_files(location, histories, encoder="hash:32", workers=1)
        failed = {Path(name).stem: error for name, error in outcomes.failed.items()}
        return {"turns": outcomes.turns, "failed": failed}


class Fragile:
    """A worker that one of its jobs kills, and that does not start if told so."""

    def __init__(self, starts: bool) -> None:
        if not starts:
            raise ValueError("no such device")

    def run(self, job: str) -> bulk.Outcome:
        if job == "poisoned":
            os._exit(1)
        return bulk.Outcome(job, turns=1)


def deaths() -> dict[str, Any]:
    """Give a job that kills its worker, and start a worker that cannot be started."""
    with bulk._Pool(Fragile, (True,), 1, 0, None) as pool:
        outcomes = pool.run({name: name for name in ("a", "poisoned", "b", "c")}, None)
    try:
        with bulk._Pool(Fragile, (False,), 1, 0, None):
            refused = ""
    except StoreError as error:
        refused = str(error)
    return {"turns": outcomes.turns, "failed": outcomes.failed, "refused": refused}


def serves(location: str) -> dict[str, Any]:
    """Add turns to two replicas over HTTP, and kill one of them in between."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(database=location, port=port, lease=1.0)
    serving.run(settings, serving.Size(least=2, most=2, cpus=0.5), wait=False)
    holders: list[Any] = []
    seconds = []
    with evomem.connect(f"http://127.0.0.1:{port}") as db:
        for number in range(1, TURNS + 1):
            for memory in range(MEMORIES):
                before = time.perf_counter()
                db.memory("fleet", str(memory)).add_many([turn(text(memory, number), number)])
                seconds.append(time.perf_counter() - before)
            stored = (
                "SELECT namespace, holder FROM memories WHERE starts_with(namespace, '[\"fleet')"
            )
            holders.append(dict(rows(location, stored)))
            if number == 2:
                os.kill(int(holders[-1]['["fleet","0"]'].split(":")[1]), signal.SIGKILL)
        ready = db.memory("fleet", "0").search("tea", k=1)[0].record.id
    from ray import serve

    serve.shutdown()
    return {
        "holders": holders,
        "found": ready,
        "slowest": max(seconds),
        "median": sorted(seconds)[len(seconds) // 2],
    }


def main(location: str) -> None:
    """Do one after the other."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    begin = time.perf_counter()
    done: dict[str, Any] = {"imports": imports(location), "deaths": deaths()}
    done["serves"] = serves(location)
    done["reencode"] = asdict(bulk.reencode(location, "hash:24", workers=1))
    done["seconds"] = time.perf_counter() - begin
    ray.shutdown()
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
