"""What `tests/test_when.py` says of times in queries, and contexts holds over HTTP."""

import pytest

import evomem
from tests import test_when
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

meals, long = test_when.meals, test_when.long
LOOK_INSIDE = (
    "test_sessions_are_in_the_order_in_which_they_were_held",
    "test_the_period_of_a_view_goes_from_its_earliest_turn_to_its_latest",
)
"""Tests that ask the store itself."""
globals().update(borrowed(test_when, without=LOOK_INSIDE))


@pytest.fixture
def db(service):
    """A client whose days are those of Los Angeles, as in `tests/test_when.py`."""
    with evomem.connect(service.url, key="", zone="America/Los_Angeles") as client:
        yield client
        for names in client.memories():
            client.memory(*names).drop()
