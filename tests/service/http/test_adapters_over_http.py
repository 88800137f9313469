"""What the tests of adapters say holds with the database of a service."""

import pytest

pytest.importorskip("langgraph", reason="needs the extra [langgraph]")
pytest.importorskip("langchain", reason="needs the extra [langchain]")

from tests.integrations.langchain import test_history, test_retriever
from tests.integrations.langgraph import test_store
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

store, facts = test_store.store, test_store.facts
alice, history = test_retriever.alice, test_history.history
LOOK_INSIDE = ("test_a_search_changes_no_log", "test_a_search_changes_nothing")
for module in (test_store, test_retriever, test_history):
    globals().update(borrowed(module, without=LOOK_INSIDE))
