"""What the tests of the LangGraph store say holds with the database of a service."""

import inspect

import pytest

pytest.importorskip("langgraph", reason="needs the extra [langgraph]")

from tests.integrations.langgraph import test_store

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

store, facts = test_store.store, test_store.facts
LOOK_INSIDE = {"test_a_search_changes_no_log"}
for _name, _test in vars(test_store).items():
    if _name.startswith("test_") and _name not in LOOK_INSIDE:
        if "tmp_path" not in inspect.signature(_test).parameters:
            globals()[_name] = _test
