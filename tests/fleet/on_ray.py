"""A process that does all that `evomem fleet` does with the real Ray; it prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psycopg
import ray
from ray import serve
from rich.progress import Progress

import evomem
from benchmarks.datasets import Conversation, Dataset
from benchmarks.qa.stages import RemoteRetriever, RunSettings, Task, retrieve
from benchmarks.quality.retrieval import RemoteRanker, rank_all
from benchmarks.spreading import pool_of
from benchmarks.systems.encoders import Encoders
from evomem.errors import DatabaseBusy, StoreError
from evomem.fleet import bulk, serving
from evomem.fleet.pool import Pool
from evomem.service.settings import Settings
from tests.fleet.workers import MEMORIES, TURNS, text
from tests.stores.helpers import turn

CLIENTS = 12
PORT = 0
"""Of Serve, which keeps it while it runs."""


def execute(location: str, query: str, *values: Any) -> Any:
    url, _, schema = location.rpartition("schema=")
    with psycopg.connect(url.rstrip("?&"), options=f"-csearch_path={schema}") as server:
        done = server.execute(query, values)
        return done.fetchall() if done.description else None


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
    """A worker that one of its jobs kills, another one upsets, and that does not start if told so."""

    def __init__(self, starts: bool) -> None:
        if not starts:
            raise ValueError("no such device")
        self._tries: Counter[str] = Counter()

    def run(self, job: str) -> int:
        self._tries[job] += 1
        if job == "poisoned":
            os._exit(1)
        if job == "hopeless" or (job == "busy" and self._tries[job] < 3):
            raise DatabaseBusy(f"tried {self._tries[job]} times")
        return 1


def deaths() -> dict[str, Any]:
    """Give jobs that kill their worker, fail or fail at first; start a worker that cannot be started."""
    outcomes = bulk.Summary()
    names = ("a", "poisoned", "busy", "hopeless", "b")
    with Pool(Fragile, (True,), workers=1) as pool:
        bulk.run(pool, {name: name for name in names}, None, outcomes)
    try:
        with Pool(Fragile, (False,), workers=1):
            refused = ""
    except StoreError as error:
        refused = str(error)
    return {**asdict(outcomes), "refused": refused}


def evaluations() -> dict[str, Any]:
    """Rank the turns of some conversations, and ingest them for answers, here and by two workers."""
    words = "tea coffee Oslo Bergen cat dog train boat".split()
    conversations = []
    for number in range(5):
        talk = Conversation(f"talk {number}")
        for place, word in enumerate(words):
            talk.add_turn(place, f"In talk {number}, guest {place} wants {word}.", "here")
        for place, word in enumerate(words):
            talk.add_question(f"Who wants {word}?", "wants", [place], "here", answer=word)
        conversations.append(talk)
    dataset = Dataset("guests", Path("guests"), "0", conversations)
    systems = ["bm25", "hash", "evomem/hybrid/hash"]
    task = Task(dataset, "evomem/hybrid/hash", dates=False)
    ranked, found = [], []
    for address in (None, "local"):
        options = Namespace(ray=address, ray_workers=2)
        with pool_of(options, RemoteRanker, systems, None) as pool:
            rankings = rank_all(dataset, systems, Encoders(), pool=pool)
            ranked.append([rankings.scores(name) for name in systems])
        with (
            pool_of(options, RemoteRetriever, task.system, None, False) as pool,
            tempfile.TemporaryDirectory() as folder,
            Progress(disable=True) as progress,
        ):
            log = retrieve(task, Encoders(), RunSettings(Path(folder), 1, 1, progress, pool))
            found.append({id: result["hits"] for id, result in sorted(log.results.items())})
    return {"equal": [ranked[0] == ranked[1], found[0] == found[1]], "questions": len(found[0])}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def refused(location: str) -> dict[str, Any]:
    """Serve a database with another encoder than the one that it was written by."""
    settings = Settings(database=location, port=PORT, encoder="hash:24")
    try:
        serving.run(settings, serving.Size(cpus=0.5), wait=False)
    except RuntimeError:
        deployment = serve.status().applications[serving.NAME].deployments[serving.NAME]
        return {"error": deployment.message, "running": replicas()}
    finally:
        serve.delete(serving.NAME)
    return {"error": "", "running": 1}


def replicas() -> int:
    deployment = serve.status().applications[serving.NAME].deployments[serving.NAME]
    running: int = deployment.replica_states.get("RUNNING", 0)
    return running


def await_replicas(number: int) -> bool:
    for _ in range(3000):
        if replicas() == number:
            return True
        time.sleep(0.1)
    return False


def scales(location: str) -> dict[str, Any]:
    """Ask more of one replica than it can do, until there are two and clients are turned away."""
    settings = Settings(database=location, port=PORT, lease=1.0, in_flight=2)
    size = serving.Size(least=1, most=2, requests=1.0, up=0.0, down=0.0, queued=2, cpus=0.5)
    serving.run(settings, size, wait=False)
    stop = Event()
    waits: list[str | None] = []

    def add(client: int) -> int:
        """Add turns in order, each until it is acknowledged; return how many."""
        name, number = f"scaled{client}", 0
        with httpx.Client(timeout=60) as http:
            while not stop.is_set():
                answer = http.post(
                    f"http://127.0.0.1:{PORT}/v1/memories/{name}/turns",
                    json={"text": f"turn {number}", "id": f"t{number}"},
                    headers={"X-Session-Id": name},
                )
                if answer.status_code == 200:
                    number += 1
                else:
                    waits.append(answer.headers.get("Retry-After"))
                    time.sleep(0.05)
        return number

    with ThreadPoolExecutor(CLIENTS) as pool:
        adding = [pool.submit(add, client) for client in range(CLIENTS)]
        rose = await_replicas(2)
        while not waits:
            time.sleep(0.1)
        stop.set()
        acknowledged = [each.result() for each in adding]
    fell = await_replicas(1)
    serve.shutdown()
    return {"rose": rose, "fell": fell, "acknowledged": acknowledged, "waits": sorted(set(waits))}


def serves(location: str) -> dict[str, Any]:
    """Add turns to two replicas over HTTP, and kill one of them in between."""
    settings = Settings(database=location, port=PORT, lease=1.0)
    serving.run(settings, serving.Size(least=2, most=2, cpus=0.5), wait=False)
    holders: list[Any] = []
    seconds = []
    with evomem.connect(f"http://127.0.0.1:{PORT}") as db:
        for number in range(1, TURNS + 1):
            for memory in range(MEMORIES):
                before = time.perf_counter()
                db.memory("fleet", str(memory)).add_many([turn(text(memory, number), number)])
                seconds.append(time.perf_counter() - before)
            held = "SELECT namespace, holder FROM memories WHERE starts_with(namespace, %s)"
            holders.append(dict(execute(location, held, '["fleet"')))
            if number == 2:
                os.kill(int(holders[-1]['["fleet","0"]'].split(":")[1]), signal.SIGKILL)
        ready = db.memory("fleet", "0").search("tea", k=1)[0].record.id
    serve.delete(serving.NAME)
    return {
        "holders": holders,
        "found": ready,
        "slowest": max(seconds),
        "median": sorted(seconds)[len(seconds) // 2],
    }


def reencodes(location: str) -> list[dict[str, Any]]:
    """Change the encoder of a database in which one turn was damaged, and again when it was mended."""
    of_one = """UPDATE turns SET assistant = %s WHERE seq = 2 AND memory = (
        SELECT memory FROM memories WHERE namespace = '["fleet","1"]')"""
    outcomes = []
    for reply in ("damaged", ""):
        execute(location, of_one, reply)
        outcomes.append(asdict(bulk.reencode(location, "hash:24", workers=1)))
    return outcomes


def main(location: str) -> None:
    """Do one after the other."""
    global PORT
    PORT = free_port()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    done: dict[str, Any] = {}
    for name, part in {
        "imports": imports,
        "deaths": lambda _: deaths(),
        "evaluations": lambda _: evaluations(),
        "serves": serves,
        "refused": refused,
        "scales": scales,
        "reencodes": reencodes,
    }.items():
        begin = time.perf_counter()
        done[name] = part(location)
        sys.stderr.write(f"{name}: {time.perf_counter() - begin:.1f} s\n")
    ray.shutdown()
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
