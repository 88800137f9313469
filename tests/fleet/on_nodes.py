"""A process that serves and imports on a Ray cluster of several nodes, and loses nodes meanwhile.

The nodes are Ray's own, on this machine (`ray.cluster_utils`): each has a raylet and workers that end with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster

import evomem
from evomem.errors import EvomemError
from evomem.fleet import bulk, serving
from evomem.service.settings import Settings
from tests.fleet.on_ray import execute, free_port
from tests.fleet.workers import MEMORIES, text
from tests.stores.helpers import turn

BEFORE, AFTER = 3, 8  # turns of each memory until the node is lost, and in all at least


def ancestors(process: int) -> Iterator[int]:
    """Yield the number of a process, and of those that started it."""
    while process > 1:
        yield process
        stat = Path(f"/proc/{process}/stat").read_text()
        process = int(stat.rpartition(") ")[2].split()[1])


def node_of(process: int, nodes: list[Any]) -> Any:
    """Return the node that a worker process belongs to."""
    above = set(ancestors(process))
    for node in nodes:
        infos = [info for kind in node.all_processes.values() for info in kind]
        if above & {info.process.pid for info in infos}:
            return node
    raise AssertionError(f"process {process} is of no node")


def serves(location: str, cluster: Cluster, nodes: list[Any]) -> dict[str, Any]:
    """Lose the node of a replica under load; return how many turns of each memory were acknowledged."""
    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    settings = Settings(database=location, port=port, lease=1.0)
    serving.run(settings, serving.Size(least=2, most=2, cpus=0.5), wait=False)
    stop, done = Event(), [0] * MEMORIES

    def add(memory: int) -> None:
        with evomem.connect(f"http://127.0.0.1:{port}") as db:
            while not stop.is_set():
                number = done[memory] + 1
                try:
                    db.memory("fleet", str(memory)).add_many([turn(text(memory, number), number)])
                except EvomemError:  # not acknowledged: again, with the same id
                    time.sleep(0.1)
                else:
                    done[memory] = number

    with ThreadPoolExecutor(MEMORIES) as pool:
        adding = [pool.submit(add, memory) for memory in range(MEMORIES)]
        while min(done) < BEFORE:
            time.sleep(0.05)
        query = "SELECT DISTINCT holder FROM memories WHERE starts_with(namespace, %s)"
        holders = {name for (name,) in execute(location, query, '["fleet"')}
        lost = node_of(int(min(holders).split(":")[1]), nodes)
        cluster.remove_node(lost, allow_graceful=False)
        nodes.remove(lost)
        target = max(AFTER, max(done) + 2)
        while min(done) < target:
            time.sleep(0.05)
        stop.set()
        for each in adding:
            each.result()
    serve.shutdown()
    return {"acknowledged": done, "replicas": len(holders)}


def imports(location: str, cluster: Cluster, nodes: list[Any]) -> dict[str, Any]:
    """Lose a node in the middle of an import."""
    with tempfile.TemporaryDirectory() as folder:
        histories = {}
        for number in range(24):
            path = Path(folder, f"{number}.json")
            said = [{"role": "user", "content": f"file {number}, line {n}"} for n in range(20)]
            path.write_text(json.dumps(said))
            histories[str(path)] = ("imported", str(number))

        def lose(done: int, _: int) -> None:
            if done == 3:
                Thread(target=cluster.remove_node, args=(nodes.pop(), False)).start()

        outcomes = bulk.import_files(location, histories, lease=1.0, workers=2, progress=lose)
    return asdict(outcomes)


def main(location: str) -> None:
    """Do one after the other."""
    evomem.open(location, "hash:32").close()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    done: dict[str, Any] = {"serves": serves(location, cluster, nodes)}
    nodes.append(cluster.add_node(num_cpus=1))
    done["imports"] = imports(location, cluster, nodes)
    ray.shutdown()
    cluster.shutdown()
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
