"""What `tests/test_corrections.py` says of corrections holds over HTTP."""

import pytest

from evomem.errors import ServiceError
from tests import test_corrections
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

memory = test_corrections.memory
NOT_OVER_HTTP = ["test_a_correction_takes_two_transactions"]  # of the database itself
globals().update(borrowed(test_corrections, without=NOT_OVER_HTTP))


def test_operations_that_need_the_database_itself_raise_service_error(db):
    calls = [lambda: db.encoder, lambda: db.drop_generations(), lambda: db.seal(b"k" * 32)]
    for call in calls:
        with pytest.raises(ServiceError, match="needs the database itself"):
            call()
