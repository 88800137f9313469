"""What the tests of adapters say holds with the database of a service.

Not of LangGraph's store, which needs the database itself (`together`, `replace_sessions`).
"""

import pytest

pytest.importorskip("langchain", reason="needs the extra [langchain]")

from tests.integrations.langchain import test_history, test_retriever
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

alice, history = test_retriever.alice, test_history.history
LOOK_INSIDE = ("test_a_search_changes_nothing",)
for module in (test_retriever, test_history):
    globals().update(borrowed(module, without=LOOK_INSIDE))
