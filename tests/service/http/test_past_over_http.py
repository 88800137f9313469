"""What `tests/test_past.py` says of what was said or added by a time holds over HTTP."""

import pytest

from evomem.errors import SharedTurns
from tests import test_past
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

homes = test_past.homes
LOOK_INSIDE = (
    "test_a_memory_that_is_read_again_equals_one_that_was_fed_in_order_of_time",  # and `progress`
    "test_rereading_a_memory_keeps_replaced_turns_replaced",
    "test_a_fork_that_shares_what_would_move_is_in_the_way",
)
"""Tests that compare what only the database itself has."""
globals().update(borrowed(test_past, without=LOOK_INSIDE))


def test_a_memory_is_read_again_in_the_order_of_time(homes):
    assert homes.reread() == 2
    assert [(record.seq, record.id) for record in homes.history()] == [
        (1, "rome"), (2, "bergen"), (3, "oslo"),
    ]  # fmt: skip
    assert homes.reread() == 0
    homes.at(seq=3).fork("trip")
    homes.add("I was born in Turin.", time=test_past.YEAR[2022], id="turin")
    with pytest.raises(SharedTurns):
        homes.reread()
