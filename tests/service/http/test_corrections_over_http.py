"""What `tests/test_corrections.py` says of corrections holds over HTTP."""

import pytest

from evomem.errors import ServiceError
from tests import test_corrections
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

memory = test_corrections.memory
NOT_OVER_HTTP = (
    "test_turns_are_replaced_whole_sessions_at_a_time",  # `replace_sessions` calls a function
    "test_a_correction_takes_two_transactions",  # counts transactions of the database itself
)
globals().update(borrowed(test_corrections, without=NOT_OVER_HTTP))


def test_what_needs_the_database_itself_says_so(db, memory):
    calls = [
        lambda: memory.replace_sessions(["s"], lambda held: []),
        lambda: db.together("alice"),
        lambda: db.sizes(),
    ]
    for call in calls:
        with pytest.raises(ServiceError, match="needs the database itself"):
            call()


async def test_what_awaits_needs_the_database_itself_too(memory):
    with pytest.raises(ServiceError, match="needs the database itself"):
        await memory.areplace_sessions(["s"], lambda held: [])
