"""What `tests/test_memory.py` says of a memory in this process holds over HTTP."""

import inspect

import pytest

from evomem.client.database import RemoteDatabase
from evomem.client.memory import RemoteMemory
from evomem.client.view import RemoteView
from evomem.database import Database
from evomem.memory import Memory
from evomem.memory_view import MemoryView
from tests import test_memory
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

alice = test_memory.alice
HERE_ALONE = (
    "test_a_healthy_database_verifies_and_counts",  # in a database where no other test made a memory
    "test_a_memory_is_shown_with_its_name_and_its_point",
    "test_a_view_of_the_past_equals_a_memory_that_was_fed_so_far",  # by its embeddings and latents
    "test_after_a_purge_the_memory_equals_one_never_fed_the_turn",  # the same
    "test_a_taken_id_after_the_first_batch_leaves_the_log_as_it_was",  # each request is a transaction
    "test_the_engine_keeps_one_state_per_memory_and_no_unused_locks",
)
globals().update(borrowed(test_memory, without=HERE_ALONE))


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """Compare what a client sees of a log; embeddings and latents do not travel."""
    monkeypatch.setattr(
        test_memory, "log", lambda memory: [(r.seq, r.turn) for r in memory.history()]
    )


@pytest.mark.parametrize(
    ("here", "there"),
    [(MemoryView, RemoteView), (Memory, RemoteMemory), (Database, RemoteDatabase)],
)
def test_every_method_is_there_with_the_same_arguments(here, there):
    for name, method in vars(here).items():
        if name.startswith("_") or (here, name) == (Database, "add_many"):  # which calls `memory`
            continue
        own = vars(there).get(name)
        assert own is not None, f"{there.__name__} lacks {name}"
        if inspect.isfunction(method):
            wanted, given = (list(inspect.signature(f).parameters) for f in (method, own))
            assert given == wanted or "args" in wanted, name
